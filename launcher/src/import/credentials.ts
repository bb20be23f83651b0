import { readFileSync } from "node:fs";
import type { OutgoingHttpHeaders } from "node:http";
import { join } from "node:path";
import { errorCode } from "../log/error-text.ts";
import { ImportError } from "./import-error.ts";

/** What a server is told of who asks: from the files of `directory`, or else from the URL, which comes back without it. */
export function readCredentials(
  url: URL,
  directory: string | undefined,
): { readonly url: URL; readonly headers: OutgoingHttpHeaders } {
  const bare = new URL(url);
  bare.username = "";
  bare.password = "";
  bare.hash = "";
  const file = (name: string) => (directory === undefined ? undefined : readOptional(join(directory, name)));
  const username = file("username") ?? decodeURIComponent(url.username);
  const password = file("password") ?? decodeURIComponent(url.password);
  const token = file("token");
  const headers = parseHeaders(file("headers") ?? "");
  if (token !== undefined) return { url: bare, headers: { Authorization: `Bearer ${token}`, ...headers } };
  if (username === "" && password === "") return { url: bare, headers };
  const basic = Buffer.from(`${username}:${password}`).toString("base64");
  return { url: bare, headers: { Authorization: `Basic ${basic}`, ...headers } };
}

function parseHeaders(text: string): OutgoingHttpHeaders {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  return Object.fromEntries(
    lines.map((line) => {
      const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*?)[ \t]*$/.exec(line);
      // The line itself may be secret.
      if (match === null)
        throw new ImportError("ConfigInvalid", 'the key "headers" of the Secret needs lines such as "Name: value"');
      return [match[1], match[2]];
    }),
  );
}

function readOptional(path: string): string | undefined {
  try {
    // Who writes files often ends them with a newline.
    return readFileSync(path, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
