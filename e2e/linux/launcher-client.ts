import { request } from "node:http";
import type { Duplex } from "node:stream";
import {
  type ApiError,
  type AttachDiskRequest,
  CONSOLE_UPGRADE,
  type LauncherStatus,
  type MachineState,
} from "../../launcher/api/control.ts";
import type { LinkState } from "../../launcher/api/machine-config.ts";
import type { MigrationRequest, MigrationStatus } from "../../launcher/api/migration.ts";

/** The launcher refused a request. */
export class LauncherRefusal extends Error {
  override name = "LauncherRefusal";
  readonly status: number;
  readonly code: string;
  constructor(status: number, error: ApiError["error"]) {
    super(`${status} ${error.code}: ${error.message}`);
    this.status = status;
    this.code = error.code;
  }
}

const isError = (answer: unknown): answer is ApiError =>
  typeof answer === "object" && answer !== null && "error" in answer;

/** The Launcher API over a unix socket. */
export class LauncherClient {
  readonly #socketPath: string;
  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  status(): Promise<LauncherStatus> {
    return this.#ask("GET", "/v1/status");
  }

  /** Resolves once the machine is in one of `states`. */
  reached(states: readonly MachineState[], timeoutMs = 60_000): Promise<LauncherStatus> {
    return this.#ask("GET", `/v1/status?waitFor=${states.join(",")}&timeoutMs=${timeoutMs}`);
  }

  act(action: "pause" | "resume" | "power-button" | "reset"): Promise<LauncherStatus> {
    return this.#ask("POST", `/v1/${action}`);
  }

  stop(timeoutMs: number): Promise<LauncherStatus> {
    return this.#ask("POST", "/v1/stop", { timeoutMs });
  }

  attachDisk(disk: AttachDiskRequest): Promise<LauncherStatus> {
    return this.#ask("POST", "/v1/disks", disk);
  }

  detachDisk(name: string): Promise<LauncherStatus> {
    return this.#ask("DELETE", `/v1/disks/${name}`);
  }

  /** As the source, which answers before it is done. */
  migrate(request: MigrationRequest): Promise<MigrationStatus> {
    return this.#ask("POST", "/v1/migration/start", request);
  }

  migration(): Promise<MigrationStatus> {
    return this.#ask("GET", "/v1/migration");
  }

  setLink(name: string, state: LinkState): Promise<LauncherStatus> {
    return this.#ask("POST", `/v1/interfaces/${name}/link`, { state });
  }

  /** Raw bytes of the console, both ways. */
  console(options: { readonly access: "read" | "write"; readonly history: boolean }): Promise<Duplex> {
    const asked = request({
      socketPath: this.#socketPath,
      path: `/v1/console?access=${options.access}&history=${options.history}`,
      headers: { Connection: "Upgrade", Upgrade: CONSOLE_UPGRADE },
    });
    return new Promise((resolve, reject) => {
      asked.on("upgrade", (_response, socket, head) => {
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      });
      asked.on("response", (response) =>
        reject(new Error(`the console was refused with status ${response.statusCode}`)),
      );
      asked.on("error", reject);
      asked.end();
    });
  }

  #ask<Answer = LauncherStatus>(method: string, path: string, body?: unknown): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: this.#socketPath, method, path, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const answer = JSON.parse(Buffer.concat(chunks).toString()) as Answer | ApiError;
          if (isError(answer)) reject(new LauncherRefusal(response.statusCode ?? 0, answer.error));
          else resolve(answer);
        });
      });
      asked.on("error", reject);
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}
