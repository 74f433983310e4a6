// Makes a package of the library alone in the given folder: its manifest without what only tests, benchmarks and examples need,
// and links to its files. With `core` as second argument also without the stores that need a feature.

import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const [, , folder, part] = process.argv;
/** Tables of the manifest, each with its header. */
const tables = readFileSync('Cargo.toml', 'utf8').split(/^(?=\[)/m);
const isOfLibrary = (table) => !/^\[+(.*\.)?(dev-dependencies|bench|test|workspace|workspace\..*|profile\..*|lints)\]/.test(table);
const withoutStores = (table) =>
  table.startsWith('[features]') ? '[features]\ntesting = []\n' : table.replace(/^.*optional = true.*\n/gm, '');
const kept = tables.filter(isOfLibrary).map((table) => (part === 'core' ? withoutStores(table) : table));
const has = (name) => kept.some((table) => table.startsWith(name));
if (!has('[dependencies]') || !has('[features]') || kept.join('').includes('dev-dependencies'))
  throw new Error('Cargo.toml is not in the form that this expects');
// A workspace of its own, although it is below another.
kept.push('\n[workspace]\n\n[lints.rust]\nunexpected_cfgs = "allow"\n');

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, 'Cargo.toml'), kept.join(''));
for (const name of ['src', 'docs', 'README.md']) symlinkSync(resolve(name), join(folder, name));
