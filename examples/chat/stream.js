// Follows one event URL for as long as the page is open: by EventSource while that works, otherwise by long polling, and
// always from the same cursor, so that a change of transport or of server loses nothing and repeats nothing.
//
//   const stream = follow('/events', {
//     event({ name, data, id }) {},   // one event; `data` is parsed JSON
//     reset(reason) {},               // discard what was received so far: what follows is the whole history
//     state(state, detail) {},        // connecting, live-sse, live-poll, reconnecting, offline, ended
//   }, { from: 'earliest' });
//   stream.close();

const PING_LIMIT = 45_000; // the server pings every 15 s: after three lost pings the connection is dead
const RETRY_LIMIT = 60_000; // an EventSource that has neither opened nor failed after this time is restarted
const WAIT = 25; // seconds that a long poll may take
const BACKOFF = { first: 500, most: 15_000 };
const SSE_AGAIN = { first: 60_000, most: 600_000 }; // while polling, how long until SSE is tried again

export function follow(url, handlers, options = {}) {
  const stream = new Follower(url, handlers, options);
  stream.start();
  return stream;
}

class Follower {
  constructor(url, handlers, { from = 'latest', names = ['message'], transport = 'auto', fallbackMs = 5_000 }) {
    Object.assign(this, { url, handlers, names, transport, fallbackMs });
    this.cursor = from; // the next request starts after this
    this.run = 0; // callbacks of an earlier run are stale, and ignored
    this.sseAgain = SSE_AGAIN.first;
    this.onOnline = () => this.start();
    this.onOffline = () => this.report('offline');
    addEventListener('online', this.onOnline);
    addEventListener('offline', this.onOffline);
  }

  /** Starts, or restarts from the cursor, with the preferred transport. */
  start() {
    if (this.current === 'ended') return;
    if (this.transport === 'poll') this.startPolling();
    else this.startSse();
  }

  close() {
    this.stop();
    removeEventListener('online', this.onOnline);
    removeEventListener('offline', this.onOffline);
  }

  // --- Server-Sent Events -------------------------------------------------------------------------------------------

  startSse() {
    const run = this.stop();
    const source = new EventSource(this.address({ heartbeat: 'event' }));
    this.source = source;
    this.report(this.current ? 'reconnecting' : 'connecting');

    const on = (name, act) =>
      source.addEventListener(name, (message) => {
        if (run !== this.run) return;
        if (message.lastEventId) this.cursor = message.lastEventId;
        this.sseAgain = SSE_AGAIN.first;
        this.report('live-sse');
        this.afterSilence(PING_LIMIT, () => this.startSse());
        act(message);
      });
    on('stream-ping', () => {});
    on('stream-live', () => {}); // the history has been delivered
    on('stream-reset', ({ data }) => this.handlers.reset(parse(data)?.reason ?? 'unknown'));
    // One of several channels may end before the others do.
    on('stream-end', ({ data }) => parse(data)?.left?.length || this.end());
    on('stream-error', ({ data }) => this.report('live-sse', `${parse(data)?.channel} cannot be read`));
    for (const name of this.names) {
      on(name, ({ data, lastEventId }) => this.handlers.event({ name, data: parse(data), id: lastEventId }));
    }

    // If a connection opens and then stays silent, something on the way buffers the body.
    const silent = () => this.fallBack('no event got through');
    this.afterSilence(this.fallbackMs, silent);
    source.addEventListener('open', () => run === this.run && this.afterSilence(this.fallbackMs, silent));
    source.addEventListener('error', () => {
      if (run !== this.run) return;
      if (source.readyState === EventSource.CLOSED) return this.fallBack('refused');
      this.report('reconnecting'); // EventSource does that by itself, from the last id
      this.afterSilence(RETRY_LIMIT, () => this.startSse());
    });
  }

  fallBack(why) {
    if (this.transport === 'sse') return this.startSse();
    this.sseAt = Date.now() + this.sseAgain;
    this.sseAgain = Math.min(this.sseAgain * 2, SSE_AGAIN.most);
    this.startPolling(why);
  }

  afterSilence(ms, act) {
    clearTimeout(this.silence);
    this.silence = setTimeout(act, ms);
  }

  // --- long polling -------------------------------------------------------------------------------------------------

  async startPolling(why) {
    const run = this.stop();
    this.report(this.current ? 'reconnecting' : 'connecting', why);
    let backoff = BACKOFF.first;
    let wait = 0; // the first response comes at once and shows that polling works
    while (run === this.run) {
      try {
        const pause = await this.poll(run, wait);
        if (run !== this.run) return;
        this.report('live-poll');
        backoff = BACKOFF.first;
        wait = WAIT;
        if (pause) await this.sleep(pause);
        if (this.transport === 'auto' && Date.now() >= this.sseAt) return this.startSse();
      } catch (error) {
        if (run !== this.run) return;
        this.report('reconnecting', error.message);
        await this.sleep(Math.max(error.retryAfter ?? 0, backoff * (0.5 + Math.random())));
        backoff = Math.min(backoff * 2, BACKOFF.most);
        wait = 0;
      }
    }
  }

  /** Sends one request. Returns how long the server wants us to wait before the next, in milliseconds. */
  async poll(run, wait) {
    this.request = new AbortController();
    const tooLong = setTimeout(() => this.request.abort(), (wait + 15) * 1000);
    try {
      const response = await fetch(this.address({ wait }), {
        headers: { accept: 'application/json' },
        cache: 'no-store',
        signal: this.request.signal,
      });
      const body = await response.json().catch(() => null);
      if (run === this.run) this.take(response, body);
      return retryAfter(response);
    } finally {
      clearTimeout(tooLong);
    }
  }

  take(response, body) {
    if (response.status === 410 && body?.earliest) {
      this.cursor = body.earliest;
      return this.handlers.reset('refused');
    }
    if (!response.ok || !Array.isArray(body)) {
      const why = body?.detail ?? body?.title ?? `the server answered ${response.status}`;
      throw Object.assign(new Error(why), { retryAfter: retryAfter(response) });
    }
    const reset = response.headers.get('events-reset');
    if (reset) this.handlers.reset(reset);
    for (const { name, data, id } of body) this.handlers.event({ name: name ?? 'message', data, id });
    this.cursor = response.headers.get('last-event-id') ?? body.at(-1)?.id ?? this.cursor;
    if (response.headers.get('events-closed') === 'true') this.end();
  }

  sleep(ms) {
    return new Promise((wake) => {
      this.wake = wake;
      this.pause = setTimeout(wake, ms);
    });
  }

  // --- both ---------------------------------------------------------------------------------------------------------

  address(parameters) {
    const address = new URL(this.url, location.href);
    for (const [name, value] of Object.entries({ after: this.cursor, ...parameters })) {
      address.searchParams.set(name, value);
    }
    return address;
  }

  /** Ends the current run and returns the number of the next. */
  stop() {
    this.source?.close();
    this.request?.abort();
    clearTimeout(this.silence);
    clearTimeout(this.pause);
    this.wake?.();
    return ++this.run;
  }

  end() {
    this.close();
    this.report('ended');
  }

  report(state, detail) {
    if (state === 'reconnecting' && !navigator.onLine) state = 'offline';
    if (state === this.current && !detail) return;
    this.current = state;
    this.handlers.state(state, detail);
  }
}

function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    return json; // plain text
  }
}

/** The `Retry-After` header (seconds, or a date) as milliseconds from now. */
function retryAfter(response) {
  const header = response.headers.get('retry-after');
  if (!header) return 0;
  const ms = /^\d+$/.test(header) ? header * 1000 : Date.parse(header) - Date.now();
  return Math.min(Math.max(ms || 0, 0), 60_000);
}
