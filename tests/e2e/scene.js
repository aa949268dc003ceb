// A running service in a folder of its own: SQLite, sign-in on, accounts made by `aftercheck people`, calls that were judged.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

import { HOSTILE, WHOLE, dead, hostile, plain } from "./calls.js";

const ROOT = resolve(import.meta.dirname, "../..");
const PROGRAM = resolve(
  ROOT,
  process.env.AFTERCHECK_PROGRAM ?? join(process.env.CARGO_TARGET_DIR ?? "target", "debug/aftercheck"),
);

/** The password of every account. */
export const PASSWORD = "correct horse battery staple";
/** Who may sign in: name, role, and the tenant that they are held to. Each test has reviewers and calls of its own. */
export const PEOPLE = [
  ["eve", "admin", null],
  ["kay", "review", "keys"],
  ["ann", "review", "pair"],
  ["bob", "review", "pair"],
  ["sam", "review", "stale"],
  ["una", "review", "undo"],
  ["nos", "review", "plain"],
  ["gil", "review", "gold"],
  ["ivy", "review", "idle"],
  [`"><script>alert(1)</script>`, "review", "named"],
];
const CALLS = { keys: 8, pair: 4, stale: 3, undo: 2, plain: 2, gold: 2, named: 1, "twin-a": 1, "twin-b": 1, shop: 9 };

/** The calls of all tests, a line each. */
function everything() {
  const messages = Object.entries(CALLS).flatMap(([tenant, count]) =>
    Array.from({ length: count }, (_, number) => plain(tenant, number)),
  );
  messages.push(...WHOLE.map((_, at) => hostile(at)), ...HOSTILE.map((_, at) => dead(at)));
  return messages.map((message) => JSON.stringify(message));
}

export class Scene {
  /** Makes accounts, judges calls, those of the tests unless others are given, and starts the service. A share of confident
   * verdicts goes to people, too; in the tests all do. */
  static async start({ messages, audit = 1 } = {}) {
    const scene = new Scene();
    scene.folder = mkdtempSync(join(tmpdir(), "aftercheck-browser-"));
    scene.config = join(scene.folder, "aftercheck.toml");
    const path = (name) => JSON.stringify(join(scene.folder, name));
    writeFileSync(
      scene.config,
      `[sqlite]\npath = ${path("a.db")}\n[http]\nauth = "on"\nlisten = "127.0.0.1:0"\n` +
        `[review]\nundo_secs = 0\n[cascade]\naudit_rate = ${audit.toFixed(2)}\n` +
        `[sinks.archive]\nkind = "jsonl"\npath = ${path("out.jsonl")}\n`,
    );
    try {
      scene.fill(messages ?? everything());
      if (!messages) scene.twins();
      await scene.run();
    } catch (error) {
      scene.stop();
      throw error;
    }
    return scene;
  }

  /** Runs a subcommand and returns what it prints. */
  cli(args, input = "") {
    const env = { ...process.env, AFTERCHECK_LOG: "off" };
    const ran = spawnSync(PROGRAM, ["--config", this.config, ...args], {
      cwd: ROOT,
      env,
      input,
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    if (ran.status !== 0) throw new Error(`aftercheck ${args.join(" ")}: ${ran.status} ${ran.stderr ?? ran.error}`);
    return ran.stdout;
  }

  /** What a subcommand prints, a value a line. */
  lines(args) {
    const text = this.cli(["--format", "json", ...args]);
    return text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }

  /** Accounts, and calls that are judged. */
  fill(messages) {
    this.cli(["migrate"]);
    for (const [name, role, tenant] of PEOPLE) {
      const held = tenant ? ["--tenant", tenant] : [];
      this.cli(["people", "add", name, "--role", role, ...held], `${PASSWORD}\n`);
    }
    this.cli(["enqueue", "-"], messages.join("\n"));
    this.cli(["run", "--drain"]);
  }

  /** A data set of two rows that say the same: no file is made of it. */
  twins() {
    for (const tenant of ["twin-a", "twin-b"]) {
      const [{ review_id }] = this.reviews("open", tenant);
      this.cli(["review", "label", review_id, "fail", "--reviewer", "eve"]);
      this.cli(["gold", "promote", review_id, "--review", "--by", "eve", "--dataset", "twins"]);
    }
  }

  /** Starts the service; it is up when it says so. */
  async run() {
    const env = { ...process.env, AFTERCHECK_LOG: "info" };
    this.child = spawn(PROGRAM, ["--config", this.config, "run"], { cwd: ROOT, env, stdio: ["ignore", "ignore", "pipe"] });
    const log = [];
    this.url = await new Promise((done, failed) => {
      createInterface({ input: this.child.stderr }).on("line", (line) => {
        log.push(line);
        const said = line.startsWith("{") ? JSON.parse(line) : {};
        if (said.message === "ready") done(`http://${said.address}`);
      });
      this.child.on("exit", (code) => failed(new Error(`the service ended with ${code}:\n${log.slice(-5).join("\n")}`)));
    });
  }

  /** The reviews in a state, of one tenant where it is named. */
  reviews(state, tenant) {
    const held = tenant ? ["--tenant", tenant] : [];
    return this.lines(["review", "list", "--limit", "1000", "--state", state, ...held]);
  }

  /** Ends the service and removes its folder. */
  stop() {
    this.child?.removeAllListeners("exit");
    this.child?.kill("SIGKILL");
    if (existsSync(this.folder)) rmSync(this.folder, { recursive: true });
  }
}
