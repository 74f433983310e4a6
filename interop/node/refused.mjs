// Sends a body that is refused, many times, and prints a JSON list of what came back: a status, or why none.
//
//   node refused.mjs <url> <content type> <bytes> <times>

const [url, type, bytes, times] = process.argv.slice(2);
const body = new Uint8Array(Number(bytes)).fill(120);
const seen = [];
for (let n = 0; n < Number(times); n++) {
  const answer = fetch(url, { method: 'POST', headers: { 'content-type': type }, body });
  seen.push(await answer.then(
    async (response) => { await response.text(); return response.status; },
    (error) => `${error.message}: ${error.cause?.code ?? error.cause?.message}`,
  ));
}
console.log(JSON.stringify(seen));
