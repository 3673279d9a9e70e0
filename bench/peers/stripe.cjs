// A peer of event-to-row: @supabase/stripe-sync-engine takes signed Stripe events about customers, 64 in flight.
//
// node stripe.cjs MODULES DATABASE_URL EVENTS CUSTOMERS IN_FLIGHT CONNECTIONS
//
// The mix is the mirror's: most events update customers that are known, some create, some delete. It verifies each
// signature and upserts one row; it keeps no event, no history and no times of groups. No event needs Stripe's API.
const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");

const [modules, databaseUrl, events, customers, inFlight, connections] = process.argv.slice(2);
const load = createRequire(path.join(modules, "package.json"));
const { StripeSync, runMigrations } = load("@supabase/stripe-sync-engine");
const Stripe = load("stripe");
const { Client } = load("pg");
const SECRET = "whsec_of_the_bench";
const WARM_UP = 1000;
const stripe = new Stripe("sk_test_of_the_bench");

function customer(number) {
  return {
    id: `cus_${String(number).padStart(14, "0")}`, object: "customer", address: null, balance: 0, created: 1700000000,
    currency: "usd", default_source: null, delinquent: false, description: null, discount: null,
    email: `person${number}@example.com`, invoice_prefix: "ABCDEF12", livemode: false, metadata: { round: String(number) },
    name: `Person ${number}`, phone: null, preferred_locales: [], shipping: null, tax_exempt: "none",
  };
}

function delivery(number, known) {
  const dice = (number * 7919) % 100;
  const type = dice < 8 ? "customer.created" : dice < 11 ? "customer.deleted" : "customer.updated";
  const object = customer(dice < 8 ? known + number : (number * 104729) % known);
  const payload = JSON.stringify({
    id: `evt_${String(number).padStart(24, "0")}`, object: "event", api_version: "2020-08-27",
    created: 1700000000 + number, data: { object }, livemode: false, pending_webhooks: 1,
    request: { id: null, idempotency_key: null }, type,
  });
  return [payload, stripe.webhooks.generateTestHeaderString({ payload, secret: SECRET })];
}

async function prepare(known) {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  // One of its migrations gives a function to this role.
  await client.query("do $$ begin create role postgres; exception when duplicate_object then null; end $$");
  const fail = (error) => { throw error; };
  await runMigrations({ databaseUrl, schema: "stripe", logger: { info() {}, error: fail } });
  await client.query("truncate stripe.customers cascade");
  await client.query(
    `insert into stripe.customers (id, object, email, name, created, last_synced_at)
     select 'cus_' || lpad(n::text, 14, '0'), 'customer', 'person' || n || '@example.com', 'Person ' || n, 1700000000,
       to_timestamp(1600000000) from generate_series(0, $1::int - 1) as n`, [known]);
  await client.query("vacuum analyze stripe.customers");
  await client.query("checkpoint");
  await client.end();
}

async function drive(sync, deliveries, lanes) {
  let next = 0;
  await Promise.all(Array.from({ length: lanes }, async () => {
    while (next < deliveries.length) {
      const [payload, signature] = deliveries[next++];
      await sync.processWebhook(payload, signature);
    }
  }));
}

async function main() {
  const known = Number(customers);
  await prepare(known);
  const sync = new StripeSync({
    schema: "stripe", stripeSecretKey: "sk_test_of_the_bench", stripeWebhookSecret: SECRET,
    poolConfig: { connectionString: databaseUrl, max: Number(connections) },
  });
  // Code that has run before, and connections that are open.
  await drive(sync, Array.from({ length: WARM_UP }, (_, number) => delivery(number, known)), Number(inFlight));
  const deliveries = Array.from({ length: Number(events) }, (_, number) => delivery(WARM_UP + number, known));
  await sync.postgresClient.query("checkpoint");
  console.log("ready");
  await new Promise((resolve) => readline.createInterface({ input: process.stdin }).once("line", resolve));
  const began = process.hrtime.bigint();
  await drive(sync, deliveries, Number(inFlight));
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log(JSON.stringify({ rate: deliveries.length / seconds, peak_mb: process.resourceUsage().maxRSS / 1024 }));
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
