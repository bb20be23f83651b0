// Exits with 0 if node_modules holds what package-lock.json asks for. Plain JavaScript: it runs before the packages are there.
import { readFileSync } from "node:fs";

const [repository] = process.argv.slice(2);
const packagesOf = (file) => JSON.parse(readFileSync(`${repository}/${file}`, "utf8")).packages;
const wanted = packagesOf("package-lock.json");
const installed = packagesOf("node_modules/.package-lock.json");
const missing = Object.entries(wanted).filter(
  // Optional packages for other machines are never installed.
  ([path, { version, optional }]) => path !== "" && !optional && installed[path]?.version !== version,
);
process.exit(missing.length === 0 ? 0 : 1);
