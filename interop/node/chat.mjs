// Uses the chat of the AI SDK as a page does, with its default transport, and prints what the page shows as a JSON line.
//
//   node chat.mjs <scenario> <url of the API> [id of the chat]

import { AbstractChat, DefaultChatTransport } from 'ai';

const [scenario, api, id = `chat-${Math.random()}`] = process.argv.slice(2);

/** What `@ai-sdk/react` keeps in React. */
class State {
  status = 'ready';
  error = undefined;
  messages = [];
  pushMessage = (message) => this.messages.push(message);
  popMessage = () => this.messages.pop();
  replaceMessage = (index, message) => (this.messages[index] = structuredClone(message));
  snapshot = structuredClone;
}

class Chat extends AbstractChat {
  constructor(init = {}) {
    super({ id, transport: new DefaultChatTransport({ api }), state: new State(), ...init });
  }
}

/** The texts of the assistant's messages. */
const texts = ({ messages }) =>
  messages.filter(({ role }) => role === 'assistant').map(({ parts }) => parts.map((part) => part.text).join('|'));
const print = (chat, more) => console.log(JSON.stringify({ texts: texts(chat), status: chat.status, error: chat.error?.message, ...more }));

const scenarios = {
  /** Asks, and shows the answer when it is whole. */
  async ask() {
    let finished;
    const chat = new Chat({ onFinish: ({ isAbort, isError }) => (finished = { isAbort, isError }) });
    await chat.sendMessage({ text: 'Why?' });
    print(chat, finished);
  },

  /** Asks over a connection that is cut, and resumes. */
  async cut() {
    const chat = new Chat();
    await chat.sendMessage({ text: 'Why?' });
    const cut = { texts: texts(chat), status: chat.status };
    await chat.resumeStream();
    print(chat, { cut });
  },

  /** Resumes what another page has asked. */
  async resume() {
    const chat = new Chat();
    await chat.resumeStream();
    print(chat);
  },

  async reconnect() {
    console.log(JSON.stringify(await new DefaultChatTransport({ api }).reconnectToStream({ chatId: id })));
  },

  /** Stops a long answer after its first words, as the button of a page does. */
  async stop() {
    const chat = new Chat();
    const asked = chat.sendMessage({ text: 'so '.repeat(3000) });
    while (!texts(chat).at(-1)?.includes('so so so')) await new Promise((resolve) => setTimeout(resolve, 5));
    const { status } = await fetch(`${api}/${id}/stop`, { method: 'POST' });
    await asked;
    print(chat, { stopped: status });
  },
};

await scenarios[scenario]();
