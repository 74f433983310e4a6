// A substitute for `cargo deny check licenses sources` on machines without cargo-deny: checks that every package that the
// crate or its tests use comes from a registry or this repository, and has a licence that deny.toml allows.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const allowed = new Set(
  /^allow = \[([^\]]*)\]/m.exec(readFileSync('deny.toml', 'utf8'))[1].match(/"[^"]+"/g).map((id) => id.slice(1, -1)),
);

/** Evaluates an SPDX expression: either side of an OR suffices, and both sides of an AND are needed. */
function accepts(expression) {
  const tokens = expression.replaceAll('/', ' OR ').match(/\(|\)|[^\s()]+/g);
  const any = () => {
    let good = all();
    while (tokens[0] === 'OR') tokens.shift(), (good = all() || good);
    return good;
  };
  const all = () => {
    let good = one();
    while (tokens[0] === 'AND') tokens.shift(), (good = one() && good);
    return good;
  };
  const one = () => {
    let token = tokens.shift();
    if (token === '(') {
      const good = any();
      tokens.shift();
      return good;
    }
    if (tokens[0] === 'WITH') token += ` ${tokens.shift()} ${tokens.shift()}`;
    return allowed.has(token);
  };
  return any();
}

const options = ['metadata', '--locked', '--all-features', '--format-version', '1'];
const { packages, workspace_members: ours } = JSON.parse(
  execFileSync('cargo', options, { maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] }),
);
const foreign = packages.filter(({ id }) => !ours.includes(id));
const wrong = foreign.filter(({ license, source }) =>
  !accepts(license ?? 'none') || !source?.startsWith('registry+'));
for (const { name, version, license, source } of wrong) console.error(`${name} ${version}: ${license}, from ${source}`);
if (!foreign.length || wrong.length) process.exit(1);
console.log(`${foreign.length} packages, each under one of: ${[...allowed].join(', ')}`);
