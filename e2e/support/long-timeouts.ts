import { jest } from "@jest/globals";

// A guest may be started three times on an emulated node; each wait has a deadline of its own.
jest.setTimeout(900_000);
