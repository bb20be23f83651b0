import { describe, expect, it } from "@jest/globals";
import { controllersHelp, parseControllersFlags } from "./flags.ts";

const image = "--launcher-image=registry.example/launcher:1";
const parse = (...args: string[]) => {
  const config = parseControllersFlags(args, { POD_NAMESPACE: "system", POD_NAME: "operator-0" });
  if (config === "help") throw new Error("help");
  return config;
};

describe("the flags of the webhook", () => {
  const parsed = (...flags: string[]) => parseControllersFlags(["--launcher-image=x", ...flags], {});

  it("are for a Service, without which there is none", () => {
    expect(parsed()).toMatchObject({ webhook: undefined });
    expect(parsed("--webhook-service=w")).toMatchObject({
      webhook: { service: "w", configuration: "typevisor-eviction", port: 9443 },
    });
  });

  it("need a configuration and a port", () => {
    expect(() => parsed("--webhook-service=w", "--webhook-configuration=")).toThrow(/--webhook-configuration/);
    expect(() => parsed("--webhook-service=w", "--webhook-port=x")).toThrow(/--webhook-port/);
  });
});

describe("flags of the controllers", () => {
  it("have defaults that can be worked with", () => {
    expect(parse(image)).toMatchObject({
      namespace: "system",
      leaderElect: false,
      watchNamespaces: [],
      settings: {
        overhead: { fixedBytes: 48 * 2 ** 20, perCpuBytes: 2 ** 20, perGuestGiBytes: 8 * 2 ** 20 },
        overlaySizeLimitBytes: 10 * 2 ** 30,
        cpuRatio: 0.1,
        controlPort: 10443,
      },
    });
  });

  it("are read as the chart writes them", () => {
    const config = parse(
      image,
      "--leader-elect",
      "--watch-namespaces=a,b",
      "--launcher-image-pull-secrets=x",
      "--cpu-ratio=1",
    );
    expect(config).toMatchObject({ leaderElect: true, watchNamespaces: ["a", "b"] });
    expect(config.settings).toMatchObject({ cpuRatio: 1, launcherImagePullSecrets: ["x"] });
  });

  it("bound migrations", () => {
    expect(parse(image).migrationSettings).toEqual({
      ...{ perCluster: 5, perNode: 2, maxDowntimeMs: 300, deadlineSeconds: 3600, autoConverge: true },
      ttlSeconds: 86_400,
    });
    const { migrationSettings } = parse(image, "--migration-bandwidth=100Mi", "--migration-auto-converge=false");
    expect(migrationSettings).toMatchObject({ bandwidthBytesPerSecond: 100 * 2 ** 20, autoConverge: false });
  });

  it("leave polling to launchers unless they say how", () => {
    expect(parse(image).settings.polling).toBeUndefined();
    expect(parse(image, "--launcher-polling-us=0").settings.polling).toEqual({ windowUs: 0, sharePercent: 50 });
    const both = ["--launcher-polling-us=100", "--launcher-polling-percent=5"];
    expect(parse(image, ...both).settings.polling).toEqual({ windowUs: 100, sharePercent: 5 });
    expect(() => parse(image, "--launcher-polling-us=1001")).toThrow(/--launcher-polling-us.*from 0 to 1000/);
  });

  it("give each process an identity of its own", () => {
    expect(parse(image).identity).toMatch(/^operator-0_/);
    expect(parse(image).identity).not.toBe(parse(image).identity);
  });

  it.each([
    [[], /--launcher-image: is required/],
    [[image, "--cpu-ratio=2"], /--cpu-ratio: "2" must be above 0/],
    [[image, "--overhead-fixed=many"], /--overhead-fixed: "many" must be a size/],
    [[image, "--overlay-size-limit=1Ki"], /--overlay-size-limit: "1Ki" must be a size .* at least 1Mi/],
    [[image, "--launcher-control-port=0"], /--launcher-control-port: "0" must be a whole number from 1/],
    [[image, "--launcher-control-port=10080"], /--launcher-telemetry-port: must differ/],
    [[image, "--launcher-migration-port=10442"], /--launcher-migration-port: and the port above must differ/],
    [[image, "--migrations-per-node=0"], /--migrations-per-node: "0" must be a whole number from 1/],
    [[image, "--migration-bandwidth=fast"], /--migration-bandwidth: "fast" must be a size/],
    [[image, "--migration-auto-converge=yes"], /--migration-auto-converge: "yes" must be one of true, false/],
    [[image, "--log-level=loud"], /--log-level: "loud" must be one of/],
    [[image, "--launcher-listen-address=localhost"], /not an IP address/],
    [[image, "--no-such-flag"], /no-such-flag/],
    [[image, "stray"], /stray/],
  ])("%j are refused with the flag's name", (args, message) => {
    expect(() => parse(...args)).toThrow(message);
  });

  it("are all in the help", () => {
    expect(parseControllersFlags(["--help"], {})).toBe("help");
    expect(controllersHelp).toContain("--overhead-per-cpu");
  });
});
