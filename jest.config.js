// One jest project a tier; `hack/test` runs them. Tiers are told apart by file name, e2e-nodes by its folder.
const base = {
  rootDir: import.meta.dirname,
  testEnvironment: "node",
  extensionsToTreatAsEsm: [".ts"],
  transform: {
    "\\.ts$": [
      "@swc/jest",
      { jsc: { target: "es2024", parser: { syntax: "typescript" } }, module: { type: "es6" }, sourceMaps: "inline" },
    ],
  },
  modulePathIgnorePatterns: ["<rootDir>/dist/"],
  setupFilesAfterEnv: ["<rootDir>/hack/test-runner/timeouts.ts"],
  testPathIgnorePatterns: ["/node_modules/", "/dist/"],
};
const emulated = { setupFilesAfterEnv: ["<rootDir>/e2e/support/long-timeouts.ts"] };
const tier = (displayName, testRegex, extra = {}) => ({ ...base, displayName, testRegex, ...extra });

export default {
  projects: [
    tier("unit", "/[^/.]+\\.test\\.ts$"),
    tier("kvm", "\\.kvm\\.test\\.ts$"),
    tier("linux", "\\.linux\\.test\\.ts$", emulated),
    tier("e2e", "\\.e2e\\.test\\.ts$", {
      globalSetup: "<rootDir>/e2e/support/global-setup.ts",
      globalTeardown: "<rootDir>/e2e/support/global-teardown.ts",
      testPathIgnorePatterns: [...base.testPathIgnorePatterns, "/e2e/nodes/"],
    }),
    tier("e2e-nodes", "/e2e/nodes/.*\\.e2e\\.test\\.ts$", emulated),
  ],
};
