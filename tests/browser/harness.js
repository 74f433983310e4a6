// Shared by the browser tests: the example servers, a browser, and a proxy that can interfere.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const BROWSERS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

// --- the browser ----------------------------------------------------------------------------------------------------

const executablePath = BROWSERS.find((file) => file && existsSync(file));
if (!executablePath) {
  const text = 'no Chromium found: install it, or set CHROMIUM=/path/to/chromium';
  if (process.env.CI === 'true') throw new Error(text);
  console.error(`\n*** THE BROWSER TESTS ARE SKIPPED: ${text} ***\n`);
}
export const options = { skip: !executablePath && 'no Chromium', timeout: 90_000 };

let browser;
if (executablePath) {
  before(async () => {
    const quiet = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
    browser = await chromium.launch({ executablePath, args: quiet });
  });
  after(() => browser.close());
}

/** Opens a fresh page, closed when the test ends. A script error on it fails the test. */
export async function open(test, url, settings = {}) {
  const context = await browser.newContext({ locale: 'en-GB', ...settings });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error));
  test.after(async () => {
    await context.close();
    assert.deepEqual(errors, []);
  });
  if (url) await page.goto(url);
  return page;
}

/** Takes a screenshot, if the variable `SCREENSHOTS` names a directory for it. */
export async function picture(page, name) {
  if (!process.env.SCREENSHOTS) return;
  mkdirSync(process.env.SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: path.join(process.env.SCREENSHOTS, `${name}.png`) });
}

// --- the servers ----------------------------------------------------------------------------------------------------

const examples = executablePath && (process.env.EXAMPLES ?? build());

function build() {
  const list = ['answers', 'chat', 'clock', 'dashboard', 'notifications', 'server'].flatMap((name) => ['--example', name]);
  const cargo = (...args) => execFileSync('cargo', args, { cwd: REPOSITORY, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26 });
  cargo('build', '--quiet', '--features', 'redis,nats,postgres', ...list);
  const { target_directory } = JSON.parse(cargo('metadata', '--format-version=1', '--no-deps'));
  return path.join(target_directory, 'debug', 'examples');
}

/** Starts an example on a free port, or on `port`; killed when the test ends. Small examples take the address alone. */
export async function serve(test, name, { port = 0, args = [] } = {}) {
  const listen = ['answers', 'dashboard', 'notifications'].includes(name) ? [] : ['--listen'];
  const child = spawn(path.join(examples, name), [...listen, `127.0.0.1:${port}`, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const end = async (signal) => {
    child.kill(signal);
    return (await exited)[0];
  };
  test.after(() => end('SIGKILL'));
  for await (const line of readline.createInterface(child.stdout)) {
    const url = /http:\/\/[\d.]+:(\d+)/.exec(line);
    if (url) {
      child.stdout.resume();
      return { url: url[0], port: Number(url[1]), stop: async () => assert.equal(await end('SIGTERM'), 0), kill: () => end('SIGKILL') };
    }
  }
  throw new Error(`${name} ended before it printed its address`);
}

/** Creates a directory, removed when the test ends. */
export function directory(test) {
  const made = mkdtempSync(path.join(tmpdir(), 'tower-events-'));
  test.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Sends a message to a chat, as another program would. */
export async function say(url, user, content) {
  const response = await fetch(`${url}/chat`, { method: 'POST', body: new URLSearchParams({ action: 'message', user, content }) });
  assert.equal(response.status, 200, await response.text());
}

/** Publishes to a channel of the event server. */
export async function publish(url, data, headers = {}, channel = 'a') {
  const body = data === undefined ? '' : JSON.stringify(data);
  const response = await fetch(`${url}/publish?channel=${channel}`, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } });
  assert.equal(response.status, 200, await response.text());
}

// --- the proxy ------------------------------------------------------------------------------------------------------

/**
 * A proxy in front of `target`. Its property `sse` says what it does to `text/event-stream`: `pass`; `hold` forwards the head
 * and never the body; `buffer` forwards nothing before the end; `refuse` answers 502. `cut()` cuts every connection, `down`
 * refuses new ones, `requests` lists the requests for events, and `target` can be changed, as by a load balancer.
 */
export async function proxy(test, target) {
  const sockets = new Set();
  const state = { target, sse: 'pass', down: false, requests: [] };
  const server = http.createServer((request, response) => {
    if (request.url.startsWith('/events')) {
      const { accept } = request.headers;
      state.requests.push({ url: new URL(request.url, state.target), accept, lastEventId: request.headers['last-event-id'] });
    }
    const upstream = http.request(new URL(request.url, state.target), { method: request.method, headers: request.headers }, (answer) => {
      const sse = answer.headers['content-type']?.startsWith('text/event-stream') ? state.sse : 'pass';
      if (sse === 'refuse') return response.writeHead(502).end('bad gateway');
      if (sse !== 'buffer') response.writeHead(answer.statusCode, answer.headers).flushHeaders();
      answer.on('error', () => response.destroy());
      if (sse === 'pass') answer.pipe(response);
      else answer.resume().on('end', () => response.end());
    });
    upstream.on('error', () => response.destroy());
    response.on('close', () => upstream.destroy());
    request.pipe(upstream);
  });
  server.on('connection', (socket) => {
    if (state.down) return socket.destroy();
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  state.cut = () => sockets.forEach((socket) => socket.destroy());
  state.url = await listen(test, server);
  test.after(() => state.cut());
  return state;
}

/** Serves one HTML page on its own origin. */
export function host(test, html) {
  return listen(test, http.createServer((_, response) => response.setHeader('content-type', 'text/html').end(html)));
}

async function listen(test, server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  test.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}
