/**
 * Records what a source sends to a target, as this version of protocol and state has it: for the test that replays what
 * earlier versions sent (launcher/src/migration/recordings). Of the pages of memory the first few are kept.
 * Needs /dev/kvm. Build first: hack/build-testguest.
 *
 *   node hack/migration/record.ts    writes launcher/src/migration/recordings/protocol-V-state-V.json
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import { STATE_VERSION } from "../../launcher/src/migration/codec/sections.ts";
import { frameTypeOf, MEMORY_FRAME, PROTOCOL_VERSION } from "../../launcher/src/migration/protocol.ts";
import { RealLauncher } from "../../launcher/src/migration/testing/real-launcher.ts";
import { type RelayedFrame, TlsRelay } from "../../launcher/src/migration/testing/tls-relay.ts";
import { TestAuthority } from "../../launcher/src/testing/certificates.ts";

const PORT = 29_870;
/** Of memory: more shows nothing more of the format. */
const PAGES_FRAMES = 2;
const COPIED = { name: "scratch", sizeBytes: 1 << 20 };

const directory = mkdtempSync(join(tmpdir(), "record-migration-"));
try {
  const recording = await record();
  const name = `protocol-${PROTOCOL_VERSION}-state-${STATE_VERSION}.json`;
  const path = join(import.meta.dirname, "../../launcher/src/migration/recordings", name);
  writeFileSync(path, `${JSON.stringify(recording, null, 2)}\n`);
  console.error(`${path}: ${JSON.stringify(recording).length} bytes`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
process.exit(0);

async function record() {
  const authority = await TestAuthority.create();
  const { cert, key } = await authority.issue("CN=machine");
  const paths = { certPath: join(directory, "cert"), keyPath: join(directory, "key"), caPath: join(directory, "ca") };
  writeFileSync(paths.certPath, cert);
  writeFileSync(paths.keyPath, key);
  writeFileSync(paths.caPath, authority.certificate);
  const disk = join(directory, "shared");
  writeFileSync(disk, new Uint8Array(1 << 16));
  const changesOf = (who: string): Partial<MachineConfig> => {
    const empty = { kind: "empty", path: join(directory, who), sizeBytes: COPIED.sizeBytes } as const;
    return {
      memory: { sizeBytes: 16 << 20 },
      disks: [
        { name: "data", readOnly: false, queues: 1, source: { kind: "raw", path: disk } },
        { name: COPIED.name, readOnly: false, queues: 1, source: empty },
      ],
      migration: { address: "127.0.0.1", port: PORT, ...paths },
    };
  };
  const frames: RelayedFrame[] = [];
  const tls = { cert, key, ca: authority.certificate };
  await using relay = new TlsRelay({
    address: "127.0.0.2",
    targetAddress: "127.0.0.1",
    port: PORT,
    tls,
    onFrame: (frame) => {
      if (frame.to === "target") frames.push({ ...frame, bytes: Buffer.from(frame.bytes) });
      return [frame.bytes];
    },
  });
  await relay.listen();
  await using source = await new RealLauncher(join(directory, "source"), changesOf("own")).start();
  await source.attach();
  await source.said("READY");
  await source.ask("blkwrite 0 3 99", "blkwrite status 0");
  await source.ask("blkwrite 1 5 77", "blkwrite status 0");
  await using _target = await new RealLauncher(join(directory, "target"), changesOf("other")).start("--receive");
  await source.call("POST", "/v1/migration/start", { address: "127.0.0.2", port: PORT, connections: 1 });
  await source.ended();
  let pagesFrames = 0;
  const kept = frames.filter(({ channel, type }) =>
    // How often it said that it was alive is chance.
    channel === "control" ? type !== frameTypeOf("alive") : type !== MEMORY_FRAME.pages || pagesFrames++ < PAGES_FRAMES,
  );
  const of = (channel: RelayedFrame["channel"]) =>
    gzipSync(Buffer.concat(kept.filter((frame) => frame.channel === channel).map(({ bytes }) => bytes)), {
      level: 9,
    }).toString("base64");
  return {
    about: "made by hack/migration/record.ts; streams are gzip, base64",
    protocolVersion: PROTOCOL_VERSION,
    stateVersion: STATE_VERSION,
    disks: [COPIED],
    control: of("control"),
    memory: of("memory"),
  };
}
