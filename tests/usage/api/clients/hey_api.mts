import { client } from "./made/client.gen.js";
import { getTotals, getTotalsCsv, getOverLimit, postRefreshes } from "./made/index.js";
import type { ErrorCode, TotalsPage } from "./made/index.js";

const { URL_OF_SERVER, KEY, SCHEME } = process.env;
client.setConfig({
  baseUrl: URL_OF_SERVER!,
  headers: SCHEME === "Bearer" ? {} : { Authorization: `${SCHEME} ${KEY}` },
  auth: SCHEME === "Bearer" ? () => KEY : undefined,
});

const page = await getTotals({ query: { month: "2026-11" }, throwOnError: true });
const typed: TotalsPage = page.data;
console.log(typed.results.map((total) => total.total_price).join(" "));

const csv = await getTotalsCsv({ query: { subscription_id: [1, 2] }, throwOnError: true });
const text: string = csv.data;
console.log(text.trim().split("\r\n").length - 1, "lines of CSV");

const refused = await getOverLimit({ query: { price_limit: "-1" } });
const code: ErrorCode | undefined = refused.error?.errors[0]?.code;
console.log(code, refused.error?.errors[0]?.attr);

const refresh = await postRefreshes();
console.log(refresh.data?.status);
