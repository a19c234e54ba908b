// node cluster_clients.cjs FOLDER ioredis|redis master|slave HOST PORT
//
// Sets and gets keys of all slots by a cluster client of npm, in parallel; prints how many replies
// were right, as JSON. `slave` reads from replicas, after they had time to follow.
'use strict';

const [folder, name, reads, host, port] = process.argv.slice(2);
const SIZES = [0, 1, 100, 16384, 100000, 1 << 20];

async function connect() {
  const library = require(`${folder}/node_modules/${name}`);
  if (name === 'ioredis') {
    const client = new library.Cluster([{ host, port: Number(port) }], {
      scaleReads: reads,
      redisOptions: { connectTimeout: 5000 },
    });
    return { client, end: () => client.quit() };
  }
  const client = library.createCluster({
    rootNodes: [{ url: `redis://${host}:${port}` }],
    useReplicas: reads === 'slave',
  });
  client.on('error', () => {});
  await client.connect();
  return { client, end: () => client.close() };
}

async function main() {
  const { client, end } = await connect();
  let asked = 0;
  let right = 0;
  const judge = (got, want) => { asked += 1; right += got === want ? 1 : 0; };
  const keys = Array.from({ length: 500 }, (_, i) => `${name}:${reads}:${i}`);
  await Promise.all(keys.map(async (key) => judge(await client.set(key, `=${key}`), 'OK')));
  for (const size of SIZES) await client.set(`${name}:size:${size}`, 'x'.repeat(size));
  await new Promise((resolve) => setTimeout(resolve, reads === 'slave' ? 500 : 0));
  await Promise.all(keys.map(async (key) => judge(await client.get(key), `=${key}`)));
  for (const size of SIZES) judge(await client.get(`${name}:size:${size}`), 'x'.repeat(size));
  judge(await client.incr(`${name}:${reads}:n:${process.pid}`), 1);
  await end();
  console.log(JSON.stringify({ asked, right }));
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
