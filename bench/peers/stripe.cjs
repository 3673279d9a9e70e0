// A peer of event to row: @supabase/stripe-sync-engine takes signed Stripe events about customers, 64 in flight.
//
// node stripe.cjs MODULES DATABASE_URL EVENTS CUSTOMERS prepare|run
//
// The mix is the mirror's: most events update known customers, some create, some delete. It verifies each signature and
// upserts one row; it keeps no event, no history and no times of groups. No event needs Stripe's API.
const [modules, databaseUrl, events, known, step] = process.argv.slice(2);
const load = require("node:module").createRequire(`${modules}/package.json`);
const { StripeSync, runMigrations } = load("@supabase/stripe-sync-engine");
const { Client } = load("pg");
const SECRET = "whsec_of_the_bench";
const KEY = "sk_test_of_the_bench";
const IN_FLIGHT = 64;
const WARM_UP = 1000;
const stripe = new (load("stripe"))(KEY);

function delivery(number) {
  const dice = (number * 7919) % 100;
  const type = dice < 8 ? "customer.created" : dice < 11 ? "customer.deleted" : "customer.updated";
  const customer = dice < 8 ? Number(known) + number : (number * 104729) % Number(known);
  const object = {
    id: `cus_${String(customer).padStart(14, "0")}`, object: "customer", address: null, balance: 0, created: 1700000000,
    currency: "usd", default_source: null, delinquent: false, description: null, discount: null,
    email: `person${customer}@example.com`, invoice_prefix: "ABCDEF12", livemode: false, metadata: { round: "1" },
    name: `Person ${customer}`, phone: null, preferred_locales: [], shipping: null, tax_exempt: "none",
  };
  const payload = JSON.stringify({
    id: `evt_${String(number).padStart(24, "0")}`, object: "event", api_version: "2020-08-27", type,
    created: 1700000000 + number, data: { object }, livemode: false, pending_webhooks: 1,
  });
  return [payload, stripe.webhooks.generateTestHeaderString({ payload, secret: SECRET })];
}

async function prepare() {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  // One of its migrations gives a function to this role.
  await client.query("do $$ begin create role postgres; exception when duplicate_object then null; end $$");
  await runMigrations({ databaseUrl, schema: "stripe", logger: { info() {}, error: console.error } });
  await client.query("truncate stripe.customers cascade");
  await client.query(`insert into stripe.customers (id, object, email, name, created, last_synced_at)
    select 'cus_' || lpad(n::text, 14, '0'), 'customer', 'person' || n || '@example.com', 'Person ' || n, 1700000000,
    to_timestamp(1600000000) from generate_series(0, $1::int - 1) as n`, [known]);
  await client.query("vacuum analyze stripe.customers");
  await client.query("checkpoint");
  return {};
}

async function drive(sync, deliveries) {
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
    while (deliveries.length) await sync.processWebhook(...deliveries.shift());
  }));
}

async function run() {
  const poolConfig = { connectionString: databaseUrl, max: IN_FLIGHT };
  const sync = new StripeSync({ schema: "stripe", stripeSecretKey: KEY, stripeWebhookSecret: SECRET, poolConfig });
  // Code that has run before, and connections that are open.
  await drive(sync, Array.from({ length: WARM_UP }, (_, number) => delivery(number)));
  const deliveries = Array.from({ length: Number(events) }, (_, number) => delivery(WARM_UP + number));
  const began = process.hrtime.bigint();
  await drive(sync, deliveries);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  return { rate: Number(events) / seconds, peak_mb: process.resourceUsage().maxRSS / 1024 };
}

(step === "prepare" ? prepare() : run())
  .then((found) => { console.log(JSON.stringify(found)); process.exit(0); })
  .catch((error) => { console.error(error); process.exit(1); });
