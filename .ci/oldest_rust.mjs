// Checks that the oldest Rust that each feature needs, according to the `rust-version` of its dependencies, is the one in the
// feature table in src/lib.rs. Clippy's `incompatible_msrv` checks that the crate's own code needs no newer one.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const cargo = (...options) =>
  execFileSync('cargo', options, { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] });

const { packages } = JSON.parse(cargo('metadata', '--locked', '--all-features', '--format-version', '1'));
const minor = (version) => Number(/^1\.(\d+)/.exec(version)[1]);
const needs = new Map(packages.map((p) => [`${p.name} v${p.version}`, p.rust_version ? minor(p.rust_version) : 0]));
const { rust_version: base, features } = packages.find((p) => p.name === 'tower-events');
const table = readFileSync('src/lib.rs', 'utf8');

/** The version in the table: 'needs Rust 1.88', or 'on Windows Rust 1.89'. */
function documented(feature, target) {
  const row = new RegExp(`^//! \\| \`${feature}\` \\|.*$`, 'm').exec(table)?.[0] ?? '';
  const windows = target.includes('windows') && /on Windows Rust (1\.\d+)/.exec(row);
  return minor((windows || /needs Rust (1\.\d+)/.exec(row))?.[1] ?? base);
}

/** The package in a feature's dependency tree that needs the newest Rust. */
function newest(feature, target) {
  const options = ['tree', '--locked', '-p', 'tower-events', '-e', 'normal,build', '--prefix', 'none', '--target', target];
  const tree = cargo(...options, '--no-default-features', '--features', feature, '-f', '{p}');
  const names = tree.split('\n').map((line) => /^\S+ v\S+/.exec(line)?.[0]).filter((name) => needs.get(name));
  return names.reduce((most, name) => (needs.get(name) > needs.get(most) ? name : most));
}

const wrong = [];
for (const target of ['x86_64-unknown-linux-gnu', 'aarch64-apple-darwin', 'x86_64-pc-windows-msvc']) {
  for (const feature of Object.keys(features)) {
    const [expected, name] = [documented(feature, target), newest(feature, target)];
    const needed = Math.max(needs.get(name), minor(base));
    console.log(`${feature} on ${target}: Rust 1.${needed}${needed > minor(base) ? ` (${name})` : ''}`);
    if (needed !== expected) wrong.push(`${feature} on ${target} needs Rust 1.${needed} (${name}), but 1.${expected} is documented`);
  }
}
if (wrong.length > 0) {
  console.error(wrong.join('\n'));
  process.exit(1);
}
