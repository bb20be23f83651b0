import { jest } from "@jest/globals";

// Waits have deadlines of their own that say what was waited for; this one only ends what hangs without, and is long
// enough for a machine that is busy with something else.
jest.setTimeout(300_000);
