// All browser tests in one process, over one service and one browser: scripts/browser [--test-name-pattern=NAME].

import { after } from "node:test";

import { stop } from "./browser.js";

import "./checker.test.js";
import "./labels.test.js";
import "./hostile.test.js";
import "./look.test.js";
import "./golden.test.js";

after(stop);
