// Keeps the page up to date: asks for it again and puts the new content in place. Everything on it was written, and escaped, by
// the relay; nothing here makes HTML. Without this script the page reloads itself.
"use strict";

const INTERVAL_MS = 2000;
const TIMEOUT_MS = 5000;

let answered = Date.now();

async function refresh() {
  const silence = document.getElementById("silence");
  try {
    const response = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const content = page.getElementById("content");
    if (!content) throw new Error("it answers something else");
    const open = [...document.querySelectorAll("details[open]")].map((details) => details.id);
    const selected = getSelection().anchorNode?.parentElement?.closest(".copy")?.id;
    document.getElementById("content").replaceWith(document.adoptNode(content));
    // What the reader has opened or is about to copy stays so.
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    const copied = selected && document.getElementById(selected);
    if (copied) getSelection().selectAllChildren(copied);
    document.title = page.title;
    answered = Date.now();
    silence.hidden = true;
    document.body.classList.remove("silent");
  } catch (error) {
    const seconds = Math.round((Date.now() - answered) / 1000);
    silence.textContent = `The relay has not answered for ${seconds} s: what stands here is old. Is it running?`;
    silence.hidden = false;
    document.body.classList.add("silent");
    document.title = "✕ No answer · streambox-relay";
  }
  setTimeout(refresh, document.hidden ? 5 * INTERVAL_MS : INTERVAL_MS);
}

setTimeout(refresh, INTERVAL_MS);
