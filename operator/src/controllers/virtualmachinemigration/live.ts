import type { Client } from "../../runtime/client.ts";
import { virtualMachineMigrations } from "./names.ts";
import { machineKeyOf, type StoredMigration } from "./stored.ts";

const PAGE_SIZE = 500;

/** All migrations of a machine, asked of the API server itself: a store may be behind. */
export async function liveMigrationsOf(client: Client, namespace: string, vmName: string): Promise<StoredMigration[]> {
  const found: StoredMigration[] = [];
  let token: string | undefined;
  do {
    const page = await client.list<StoredMigration>(virtualMachineMigrations, {
      namespace,
      limit: PAGE_SIZE,
      continue: token,
    });
    found.push(...page.items.filter((each) => machineKeyOf(each) === `${namespace}/${vmName}`));
    token = page.metadata?.continue || undefined;
  } while (token !== undefined);
  return found;
}
