// The chat page. Messages come only from the event stream: a message that was sent is shown as pending until the stream
// delivers it. User input is inserted only through `textContent`.
//
// For experiments: `?transport=poll` or `?transport=sse` forces one transport, `?fallback_ms=` sets how long SSE may stay
// silent.

import { follow } from '/stream.js';

const STATES = {
  connecting: 'connecting…',
  'live-sse': 'live (SSE)',
  'live-poll': 'live (long poll)',
  reconnecting: 'reconnecting…',
  offline: 'offline',
  ended: 'this chat has ended',
};

const [log, form, user, content, send, state, empty, newest, template] = [
  'log', 'form', 'user', 'content', 'send', 'state', 'empty', 'newest', 'message',
].map((id) => document.getElementById(id));

const shown = new Map(); // messages from the stream: id -> element
const pending = new Set(); // our own messages that the stream has not delivered yet

// --- receiving ------------------------------------------------------------------------------------------------------

const query = new URLSearchParams(location.search);
const stream = follow('/events', {
  event: ({ name, data }) => name === 'message' && receive(data),
  reset: startOver,
  state: showState,
}, {
  from: 'earliest',
  transport: query.get('transport') ?? 'auto',
  fallbackMs: Number(query.get('fallback_ms')) || undefined,
});
addEventListener('pagehide', () => stream.close());
addEventListener('pageshow', ({ persisted }) => persisted && location.reload());

function receive(message) {
  if (shown.has(message.id)) return; // published twice, because the server stopped between storing and announcing
  const wasAtEnd = atEnd();
  settle(message);
  const element = render(message);
  shown.set(message.id, element);
  append(element, message);
  if (wasAtEnd) scrollToEnd();
  else newest.hidden = false;
  if (document.hidden) document.title = '● Chat';
}

/** After a reset: what follows is the whole history. */
function startOver() {
  shown.clear();
  log.ariaBusy = 'true';
  log.replaceChildren(...[...pending].map((mine) => mine.element));
  newest.hidden = true;
}

function showState(name, detail) {
  state.dataset.state = name;
  state.textContent = STATES[name];
  state.title = detail ?? '';
  send.disabled = name === 'ended';
  if (!name.startsWith('live')) return;
  requestAnimationFrame(() => {
    log.ariaBusy = 'false'; // from now on, screen readers announce what is added
    showEmpty();
  });
}

// --- sending --------------------------------------------------------------------------------------------------------

form.addEventListener('submit', (submit) => {
  submit.preventDefault();
  const mine = { user: user.value.trim(), content: content.value.trim(), key: newKey() };
  if (!mine.user || !mine.content) return (mine.user ? content : user).focus();
  remember(mine.user);
  mine.element = render({ ...mine, time: Date.now() });
  mine.element.querySelector('.again').addEventListener('click', () => post(mine));
  mine.element.querySelector('.drop').addEventListener('click', () => drop(mine));
  pending.add(mine);
  log.append(mine.element);
  scrollToEnd();
  content.value = '';
  content.focus();
  post(mine);
});

/** Sends a message; its key makes sending it again harmless. */
async function post(mine) {
  mark(mine, 'pending');
  try {
    const fields = { action: 'message', user: mine.user, content: mine.content, key: mine.key };
    const request = { method: 'POST', body: new URLSearchParams(fields), signal: AbortSignal.timeout(20_000) };
    const response = await fetch('/chat', request);
    const body = await response.json().catch(() => null);
    if (!response.ok) throw new Error(body?.detail ?? `The server answered ${response.status}.`);
    mine.id = body.id;
    if (shown.has(mine.id)) drop(mine); // the stream was faster
  } catch (error) {
    const unreachable = error instanceof TypeError || error.name === 'TimeoutError';
    mark(mine, 'failed', unreachable ? 'The server cannot be reached.' : error.message);
  }
}

/** Removes the pending message that `message` is the delivery of. */
function settle(message) {
  const is = (mine) => mine.id === message.id;
  const looksLike = (mine) => mine.id === undefined && mine.user === message.user && mine.content === message.content;
  const mine = [...pending].find(is) ?? [...pending].find(looksLike);
  if (mine) drop(mine);
}

function drop(mine) {
  pending.delete(mine);
  mine.element.remove();
  showEmpty();
}

function mark(mine, status, why = '') {
  const wasAtEnd = atEnd();
  mine.element.classList.toggle('pending', status === 'pending');
  mine.element.classList.toggle('failed', status === 'failed');
  const note = mine.element.querySelector('.note');
  note.hidden = status !== 'failed';
  note.firstElementChild.textContent = why;
  mine.element.querySelector('time').textContent = status === 'failed' ? 'not sent' : 'sending…';
  if (wasAtEnd) scrollToEnd();
}

/** 128 random bits. (`randomUUID` needs HTTPS, which a chat on a local network does not have.) */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

content.addEventListener('keydown', (key) => {
  if (key.key !== 'Enter' || key.shiftKey || key.isComposing) return;
  key.preventDefault();
  form.requestSubmit();
});

// --- elements -------------------------------------------------------------------------------------------------------

function render({ id, user: name, content: text, time }) {
  const element = template.content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  const date = new Date(time);
  if (id !== undefined) element.dataset.id = id;
  element.classList.toggle('own', name === user.value.trim());
  element.dataset.user = name;
  find('.avatar').textContent = [...name][0]?.toUpperCase() ?? '?';
  find('.avatar').style.setProperty('--hue', hue(name));
  find('.user').textContent = name;
  find('.content').textContent = text;
  find('time').dateTime = date.toISOString();
  find('time').textContent = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  find('time').title = date.toLocaleString();
  return element;
}

/** Inserts a message before the pending ones, after a line with the date where the day changes. */
function append(element, { user: name, time }) {
  const end = [...pending].map((mine) => mine.element).find((mine) => mine.isConnected) ?? null;
  const before = end ? end.previousElementSibling : log.lastElementChild;
  const day = new Date(time).toDateString();
  if (before?.dataset.day !== day) log.insertBefore(dayLine(time), end);
  else if (before.dataset.user === name && time - before.dataset.time < 120_000) element.classList.add('same');
  Object.assign(element.dataset, { day, time });
  log.insertBefore(element, end);
  showEmpty();
}

function dayLine(time) {
  const line = document.createElement('li');
  line.className = 'day';
  line.textContent = new Date(time).toLocaleDateString([], { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
  return line;
}

function hue(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
}

function showEmpty() {
  empty.hidden = log.childElementCount > 0;
}

function atEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
}

function scrollToEnd() {
  log.scrollTop = log.scrollHeight;
  newest.hidden = true;
}

newest.addEventListener('click', scrollToEnd);
log.addEventListener('scroll', () => atEnd() && (newest.hidden = true));
document.addEventListener('visibilitychange', () => document.hidden || (document.title = 'Chat'));

// --- the name -------------------------------------------------------------------------------------------------------

function remember(name) {
  try {
    localStorage.setItem('user', name);
  } catch {} // storage may be disabled
}

function remembered() {
  try {
    return localStorage.getItem('user') ?? '';
  } catch {
    return '';
  }
}

// Which messages are ours depends on the name.
user.addEventListener('input', () => {
  for (const element of log.querySelectorAll('[data-user]')) {
    element.classList.toggle('own', element.dataset.user === user.value.trim());
  }
});
user.value = remembered();
(user.value ? content : user).focus();
