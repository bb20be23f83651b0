import { jest } from "@jest/globals";

// Each wait has a deadline of its own that says what was waited for; this one only ends what hangs without.
jest.setTimeout(300_000);
