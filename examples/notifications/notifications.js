// The page: a snapshot says what is unread, and from there on the events say what changes.

const of = (id) => document.getElementById(id);
const unread = new Map(); // by id, the oldest first
let stream, renewal;

async function call(method, path, fields) {
  const body = fields && new URLSearchParams(fields);
  const response = await fetch(path, { method, body });
  if (response.status === 401) signedOut('Please sign in.');
  else if (!response.ok) throw new Error((await response.json().catch(() => ({}))).detail ?? `The server answered ${response.status}.`);
  return response;
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

/** Follows the inbox. A reconnect continues after the last event, with the cookie of then. */
function follow() {
  stream?.close();
  show('connecting', 'connecting');
  const source = stream = new EventSource('/events');
  source.onopen = () => show('live', 'live');
  source.onerror = () => {
    // A request that was refused is not repeated: the token has expired, or was revoked.
    if (source.readyState === EventSource.CLOSED) signedOut(of('user').textContent ? 'You were signed out.' : '');
    else show('connecting', 'connecting');
  };
  // The state, at first and whenever events were missed. What comes after it may be in it already.
  source.addEventListener('unread', ({ data }) => {
    const { user, unread: newest } = JSON.parse(data);
    of('user').textContent = user;
    if (!of('notify').elements.to.value) of('notify').elements.to.value = user;
    unread.clear();
    for (const one of newest.reverse()) unread.set(one.id, one);
    list();
  });
  source.addEventListener('notification', ({ data }) => {
    const one = JSON.parse(data);
    unread.set(one.id, one);
    list();
  });
  source.addEventListener('read', ({ data }) => {
    for (const id of unread.keys()) if (id <= Number(data)) unread.delete(id);
    list();
  });
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
  const { life } = await (await call('POST', '/login', new FormData(form))).json();
  of('why').textContent = of('user').textContent = of('notify').elements.to.value = '';
  renew(life);
  follow();
});
on('notify', 'submit', async (form) => {
  if ((await call('POST', '/notify', new FormData(form))).ok) form.elements.text.value = '';
});
on('read', 'click', () => call('POST', '/read', { until: Math.max(...unread.keys()) }));
on('logout', 'click', () => call('POST', '/logout'));

show('starting', '');
fetch('/renew', { method: 'POST' }).then(async (fresh) => {
  if (!fresh.ok) return signedOut('');
  renew((await fresh.json()).life);
  follow();
}).catch(() => show('starting', 'the server does not answer'));
