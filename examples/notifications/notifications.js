// The page: what is unread comes from the database, and from there on the events say what changes.

const of = (id) => document.getElementById(id);
const unread = new Map(); // by id, the oldest first
let stream, renewal;

async function call(method, path, fields) {
  const body = fields && new URLSearchParams(fields);
  const response = await fetch(path, { method, body });
  if (response.status === 401) return signedOut('Please sign in.'), null;
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function show(state, text) {
  document.body.dataset.state = state;
  of('state').textContent = text;
  of('login').hidden = state !== 'signed-out';
  of('inbox').hidden = state === 'signed-out' || state === 'starting';
}

function list() {
  const items = [...unread.values()].reverse().map(({ sender, text }) => {
    const item = of('notification').content.cloneNode(true).firstElementChild;
    const hue = [...sender].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
    item.querySelector('.avatar').textContent = [...sender][0].toUpperCase();
    item.querySelector('.avatar').style.background = `hsl(${hue} 45% 42%)`;
    item.querySelector('b').textContent = sender;
    item.querySelector('p span').textContent = text;
    return item;
  });
  of('list').replaceChildren(...items);
  of('count').textContent = unread.size > 99 ? '99+' : unread.size;
  of('count').hidden = of('read').disabled = unread.size === 0;
  of('count').hidden = unread.size === 0;
  document.title = unread.size ? `(${unread.size}) Notifications` : 'Notifications';
}

async function start() {
  const now = await call('GET', '/unread');
  if (!now) return;
  unread.clear();
  for (const one of now.unread.reverse()) unread.set(one.id, one);
  of('user').textContent = now.user;
  list();
  show('connecting', 'connecting');
  follow(now.position);
}

/** Follows the events after `position`. A reconnect continues after the last one, with the cookie of then. */
function follow(position) {
  stream?.close();
  stream = new EventSource(`/events?last_event_id=${encodeURIComponent(position)}`);
  stream.onopen = () => show('live', 'live');
  stream.onerror = () => {
    // A request that was refused is not repeated: the token has expired, or was revoked.
    if (stream.readyState === EventSource.CLOSED) signedOut('You were signed out.');
    else show('connecting', 'connecting');
  };
  stream.addEventListener('notification', ({ data }) => {
    const one = JSON.parse(data);
    unread.set(one.id, one);
    list();
  });
  stream.addEventListener('read', ({ data }) => {
    for (const id of unread.keys()) if (id <= JSON.parse(data).until) unread.delete(id);
    list();
  });
  stream.addEventListener('stream-reset', start); // something was missed: the database has it
}

function signedOut(why) {
  stream?.close();
  clearInterval(renewal);
  unread.clear();
  list();
  show('signed-out', 'signed out');
  of('why').textContent = why;
}

/** Keeps the token fresh while the page is open. */
function renew(life) {
  clearInterval(renewal);
  renewal = setInterval(() => call('POST', '/renew').catch(() => {}), (life / 2) * 1000);
}

function on(id, type, act) {
  of(id).addEventListener(type, async (event) => {
    event.preventDefault();
    try {
      await act(event.target);
    } catch (error) {
      of('state').textContent = error.message;
    }
  });
}

on('login', 'submit', async (form) => {
  const { life } = await call('POST', '/login', new FormData(form));
  of('why').textContent = '';
  of('notify').elements.to.value = form.elements.user.value;
  renew(life);
  await start();
});
on('notify', 'submit', async (form) => {
  if (await call('POST', '/notify', new FormData(form))) form.elements.text.value = '';
});
on('read', 'click', () => call('POST', '/read'));
on('logout', 'click', () => call('POST', '/logout'));

show('starting', '');
start().catch(() => show('connecting', 'the server does not answer'));
fetch('/renew', { method: 'POST' }).then(async (fresh) => fresh.ok && renew((await fresh.json()).life)).catch(() => {});
