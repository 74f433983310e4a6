// Lists sets of features to check, one a line: none, each feature, each pair, and all. A pair of which one implies the other is
// left out, because it is the same as that one alone.

import { execFileSync } from 'node:child_process';

const metadata = execFileSync('cargo', ['metadata', '--locked', '--no-deps', '--format-version', '1'], { encoding: 'utf8' });
const { features } = JSON.parse(metadata).packages.find((p) => p.name === 'tower-events');
const names = Object.keys(features).filter((name) => name !== 'default');

/** Whether enabling `one` enables `other`. */
const implies = (one, other) =>
  features[one].some((name) => name === other || (name in features && implies(name, other)));

const pairs = names.flatMap((one, at) => names.slice(at + 1).map((other) => [one, other]));
const distinct = pairs.filter(([one, other]) => !implies(one, other) && !implies(other, one));
console.log(['none', ...names, ...distinct.map((pair) => pair.join(',')), names.join(',')].join('\n'));
