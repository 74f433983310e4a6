// The engines that several nodes can share, each a real server on a free port with its own folder.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { directory, options } from './harness.js';

const POSTGRES = '/usr/lib/postgresql';
const PATH = [...process.env.PATH.split(':'), '/usr/sbin', '/usr/local/sbin', ...postgresPrograms()];

/** Each has a name, the options of its tests, and `start(test)`, which returns the URL of its store. */
export const engines = [
  engine('redis', 'redis-server', (program, port, folder) => ({
    url: `redis://127.0.0.1:${port}/`,
    command: [program, '--port', port, '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'yes', '--logfile', 'log'],
  })),
  engine('nats', 'nats-server', (program, port, folder) => ({
    url: `nats://127.0.0.1:${port}`,
    command: [program, '-a', '127.0.0.1', '-p', port, '-js', '-sd', folder, '-l', path.join(folder, 'log')],
  })),
  engine('postgres', 'initdb', (initdb, port, folder) => {
    // PostgreSQL refuses to run as root.
    const id = (flag) => process.getuid() === 0 ? Number(execFileSync('id', [flag, 'postgres'])) : undefined;
    const user = { uid: id('-u'), gid: id('-g'), cwd: '/', stdio: 'ignore' };
    chmodSync(path.dirname(folder), 0o755);
    chmodSync(folder, 0o777);
    const data = path.join(folder, 'data');
    execFileSync(initdb, ['-D', data, '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync'], user);
    const settings = { listen_addresses: '127.0.0.1', port, unix_socket_directories: '', fsync: 'off' };
    return {
      url: `postgres://postgres@127.0.0.1:${port}/postgres`,
      command: [path.join(path.dirname(initdb), 'postgres'), '-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      user,
      isReady: postgresIsReady,
    };
  }),
];

function engine(name, program, prepare) {
  const found = PATH.map((folder) => path.join(folder, program)).find((file) => existsSync(file));
  if (!found) {
    const text = `no ${program} found: install it to test the chat on ${name}`;
    if (process.env.CI === 'true') throw new Error(text);
    console.error(`\n*** TESTS ARE SKIPPED: ${text} ***\n`);
  }
  const start = async (test) => {
    const folder = path.join(directory(test), name);
    mkdirSync(folder);
    const port = await freePort();
    const { url, command, user, isReady = () => true } = prepare(found, String(port), folder);
    const child = spawn(command[0], command.slice(1), { stdio: 'ignore', ...user });
    const exited = once(child, 'exit');
    test.after(async () => {
      child.kill('SIGINT'); // stops each of these servers at once
      await exited;
    });
    await waitUntilItListens(port, exited);
    while (!await isReady(port)) await sleep(20);
    return url;
  };
  return { name, start, options: { ...options, skip: options.skip || (!found && `no ${program}`) } };
}

/** Debian does not put the programs of PostgreSQL's server into the path. */
function postgresPrograms() {
  const versions = existsSync(POSTGRES) ? readdirSync(POSTGRES) : [];
  return versions.sort((a, b) => b - a).map((version) => path.join(POSTGRES, version, 'bin'));
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** PostgreSQL listens before it lets anybody in: until then it answers a start-up message with an error (`E`), not with `R`. */
async function postgresIsReady(port) {
  const protocol = 3 << 16;
  const parameters = Buffer.from('user\0postgres\0database\0postgres\0\0');
  const head = Buffer.alloc(8);
  head.writeInt32BE(head.length + parameters.length, 0);
  head.writeInt32BE(protocol, 4);
  const socket = net.connect(port, '127.0.0.1');
  socket.write(Buffer.concat([head, parameters]));
  const [answer] = await Promise.race([once(socket, 'data'), once(socket, 'close').then(() => [''])]).catch(() => ['']);
  socket.destroy();
  return String(answer).startsWith('R');
}

/** Waits until the engine listens on the port. */
async function waitUntilItListens(port, exited) {
  let ended = false;
  exited.then(() => (ended = true));
  while (!ended) {
    const socket = net.connect(port, '127.0.0.1');
    const connected = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]).catch(() => false);
    socket.destroy();
    if (connected) return;
    await sleep(20);
  }
  throw new Error('the engine ended before it listened');
}
