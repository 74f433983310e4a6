// Sends a body that is refused, many times, and prints a JSON list with the status of each response, or the error.
//
//   node refused.mjs <url> <content type> <bytes> <times>

const [url, type, bytes, times] = process.argv.slice(2);
const body = new Uint8Array(Number(bytes)).fill(120);
const results = [];
for (let n = 0; n < Number(times); n++) {
  const sent = fetch(url, { method: 'POST', headers: { 'content-type': type }, body });
  results.push(await sent.then(
    async (response) => { await response.text(); return response.status; },
    (error) => `${error.message}: ${error.cause?.code ?? error.cause?.message}`,
  ));
}
console.log(JSON.stringify(results));
