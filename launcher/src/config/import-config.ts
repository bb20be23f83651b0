import { IMPORT_VERSION, type ImportConfig, type ImportSource, type ImportTargetConfig } from "../../api/import.ts";
import { Field } from "./field.ts";

const absolutePath = { maxBytes: 4096, pattern: /^\/[^\0]*$/, wanted: "an absolute path" } as const;
const SIZE_MAX_BYTES = 2 ** 50;

/** Reads the JSON that an importer is started with. Throws ConfigInvalid, which names the field. */
export function parseImportConfig(text: string): ImportConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return new Field("", undefined).fail("is no JSON");
  }
  const names = ["version", "source", "target", "scratchDirectory", "memoryBytes", "agentSocketPath"] as const;
  const config = new Field("", value).object([...names, "telemetry", "terminationMessagePath", "log"]);
  const { memoryBytes, agentSocketPath, telemetry, terminationMessagePath } = config;
  return {
    version: config.version.oneOf([IMPORT_VERSION]),
    source: parseSource(config.source),
    target: parseTarget(config.target),
    scratchDirectory: config.scratchDirectory.string(absolutePath),
    ...(memoryBytes.present ? { memoryBytes: memoryBytes.integer({ min: 1, max: SIZE_MAX_BYTES }) } : {}),
    ...(agentSocketPath.present ? { agentSocketPath: agentSocketPath.string(absolutePath) } : {}),
    ...(telemetry.present ? { telemetry: parseTelemetry(telemetry) } : {}),
    ...(terminationMessagePath.present ? { terminationMessagePath: terminationMessagePath.string(absolutePath) } : {}),
    log: { level: config.log.object(["level"]).level.oneOf(["debug", "info", "warn", "error"]) },
  };
}

function parseTelemetry(field: Field): NonNullable<ImportConfig["telemetry"]> {
  const { address, port } = field.object(["address", "port"]);
  const anAddress = { maxBytes: 64, pattern: /^[0-9a-fA-F.:]+$/, wanted: "an IP address" };
  return { address: address.string(anAddress), port: port.integer({ min: 0, max: 65_535 }) };
}

function parseTarget(field: Field): ImportTargetConfig {
  const { kind, path, sizeBytes } = field.object(["kind", "path", "sizeBytes"]);
  return {
    kind: kind.oneOf(["directory", "device"]),
    path: path.string(absolutePath),
    sizeBytes: sizeBytes.integer({ min: 1, max: SIZE_MAX_BYTES }),
  };
}

function parseSource(field: Field): ImportSource {
  switch (field.loose("kind").oneOf(["http", "image", "disk"])) {
    case "http":
      return parseHttp(field);
    case "image": {
      const { imageRoot, path } = field.object(["kind", "imageRoot", "path"]);
      const inImage = path.present ? { path: path.string(absolutePath) } : {};
      return { kind: "image", imageRoot: imageRoot.string(absolutePath), ...inImage };
    }
    case "disk": {
      const volume = field.object(["kind", "volume"]).volume.object(["kind", "path"]);
      const kind = volume.kind.oneOf(["directory", "device"]);
      return { kind: "disk", volume: { kind, path: volume.path.string(absolutePath) } };
    }
  }
}

function parseHttp(field: Field): ImportSource {
  const names = ["kind", "url", "checksum", "credentialsDirectory", "authoritiesDirectory"] as const;
  const { url, checksum, credentialsDirectory, authoritiesDirectory } = field.object(names);
  return {
    kind: "http",
    url: url.string({ maxBytes: 4096, pattern: /^https?:\/\/\S+$/, wanted: "a URL with http:// or https://" }),
    ...(checksum.present ? { checksum: parseChecksum(checksum) } : {}),
    ...(credentialsDirectory.present ? { credentialsDirectory: credentialsDirectory.string(absolutePath) } : {}),
    ...(authoritiesDirectory.present ? { authoritiesDirectory: authoritiesDirectory.string(absolutePath) } : {}),
  };
}

const DIGEST_LENGTHS = { sha256: 64, sha512: 128 } as const;

function parseChecksum(field: Field) {
  const { algorithm: algorithmField, digest } = field.object(["algorithm", "digest"]);
  const algorithm = algorithmField.oneOf(["sha256", "sha512"]);
  const length = DIGEST_LENGTHS[algorithm];
  const wanted = `${length} hexadecimal digits`;
  return {
    algorithm,
    digest: digest.string({ maxBytes: length, pattern: new RegExp(`^[0-9a-fA-F]{${length}}$`), wanted }),
  };
}
