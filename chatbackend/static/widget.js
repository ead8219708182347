// The chat widget: one file, no build step, nothing loaded from elsewhere.
//
//   <script src="https://chat.example/static/widget.js" data-key="wk_..." defer></script>
//
// data-identity-url  asked (with cookies) for {"jwt": "..."} when the customer is to be known; or set
//                    window.frugalchat = {identity: async () => jwt} before this script.
// data-color         the colour of the launcher and the customer's messages.
//
// window.frugalchat afterwards: open(text), close(), identify(jwt), on(event, fn). Every frame of the
// protocol (docs/protocol.md) is also a DOM event "frugalchat:frame" on window. Text is only ever text.
(() => {
  "use strict";
  const script = document.currentScript;
  const { key, identityUrl, color } = script.dataset;
  const site = window.frugalchat || {};
  const address = new URL("/ws/chat/", script.src).href.replace(/^http/, "ws");

  function newId() {
    if (crypto.randomUUID) return crypto.randomUUID(); // secure contexts only
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  const memory = {
    name: `frugalchat:${key}:visitor`,
    get visitor() { try { return localStorage.getItem(this.name); } catch { return null; } },
    set visitor(secret) { try { localStorage.setItem(this.name, secret); } catch { /* asked anew next time */ } },
  };

  // --- the socket: stays up, resumes where it was, sends again what was not acknowledged --------------
  class Line extends EventTarget {
    #socket = null;
    #jwt = null; // given by identify(); null: ask the site
    #tries = 0;
    #timer = 0;
    #started = false; // the history of this conversation is shown
    #live = false; // signed in, and every frame from here on will come
    #stale = false; // the identity was refused once: ask for a fresh one
    #typing = { on: false, since: 0 }; // what was told last
    conversation = null;
    lastSeq = 0;
    unacknowledged = new Map(); // id -> text, in the order of sending

    connect() {
      if (this.#socket || !key) return;
      clearTimeout(this.#timer);
      const socket = (this.#socket = new WebSocket(address));
      socket.onopen = () => this.#authenticate(socket);
      socket.onmessage = ({ data }) => { if (socket === this.#socket) this.#hear(JSON.parse(data)); };
      socket.onclose = ({ code }) => { if (socket === this.#socket) this.#lost(code); };
    }

    identify(jwt) {
      this.#jwt = jwt;
      const used = this.#socket !== null;
      this.#forget();
      this.unacknowledged.clear();
      this.#emit("changed");
      if (used) this.connect();
    }

    say(text) {
      const id = newId();
      this.unacknowledged.set(id, text);
      if (this.#live) this.#send("message.send", { text }, id);
      return id;
    }

    stop() { if (this.#live) this.#send("stream.cancel", {}); }

    typing(on) { // on at most every 5 s, off once after it
      const due = on ? Date.now() - this.#typing.since > 5000 : this.#typing.on;
      if (!due || !this.#live) return;
      this.#typing = { on, since: on ? Date.now() : this.#typing.since };
      this.#send("typing", { on });
    }

    rate(message_id, rating) { if (this.#live) this.#send("feedback.set", { message_id, rating }); }

    #forget() {
      const socket = this.#socket;
      this.#socket = null;
      socket?.close();
      clearTimeout(this.#timer);
      Object.assign(this, { conversation: null, lastSeq: 0 });
      this.#started = this.#live = this.#stale = false;
      this.#tries = 0;
    }

    async #identity() {
      if (this.#jwt && !this.#stale) return this.#jwt;
      const ask = window.frugalchat.identity;
      if (ask) return await ask();
      if (!identityUrl) return null;
      const answer = await fetch(identityUrl, { credentials: "include" });
      return answer.ok ? (await answer.json()).jwt : null;
    }

    async #authenticate(socket) {
      const jwt = await this.#identity().catch(() => null);
      if (socket !== this.#socket) return;
      const who = jwt ? { jwt } : { visitor: memory.visitor };
      this.#send("auth", { widget_key: key, ...who });
    }

    #send(type, data, id = newId()) {
      if (this.#socket?.readyState !== WebSocket.OPEN) return;
      this.#socket.send(JSON.stringify({ v: 1, id, type, conversation_id: this.conversation, data }));
    }

    #hear(frame) {
      if (frame.seq !== null) {
        if (frame.seq <= this.lastSeq) return; // known already
        this.lastSeq = frame.seq;
      }
      const { event, data, reply_to } = frame;
      if (event === "session.ready") this.#ready(frame);
      if (event === "ack" && this.unacknowledged.delete(reply_to)) this.#moved(data);
      if (event === "history.page" && !this.#started) this.#resume();
      if (event === "handoff.updated" && data.state === "closed") this.conversation = null; // the next message begins one
      if (event === "resync.required") {
        this.lastSeq = data.last_seq;
        this.#send("history.list", {});
      }
      if (event === "problem") this.#refused(data.code, reply_to);
      this.#emit("frame", frame);
    }

    #ready({ conversation_id, data }) {
      this.#tries = 0;
      this.#stale = false;
      if (data.visitor) memory.visitor = data.visitor;
      if (conversation_id !== this.conversation) {
        Object.assign(this, { conversation: conversation_id, lastSeq: data.last_seq });
        this.#started = false;
      }
      if (this.#started) this.#resume();
      else this.#send("history.list", {});
    }

    #moved({ conversation_id, seq }) {
      if (conversation_id !== this.conversation) Object.assign(this, { conversation: conversation_id, lastSeq: seq - 1 });
    }

    #resume() {
      this.#started = this.#live = true;
      this.#send("session.resume", { last_seq: this.lastSeq });
      for (const [id, text] of this.unacknowledged) this.#send("message.send", { text }, id);
    }

    #refused(code, id) {
      if (code === "busy") setTimeout(() => this.#again(id), 1500); // another tab's turn is running
      else this.unacknowledged.delete(id);
      if (code === "conversation_closed") this.conversation = null;
      if (this.#live || !["not_found", "temporarily_unavailable", "internal_error"].includes(code)) return;
      if (code === "not_found") Object.assign(this, { conversation: null, lastSeq: 0 });
      this.#socket.close(); // not signed in: from the start, a little later
    }

    #again(id) {
      const text = this.unacknowledged.get(id);
      if (this.#live && text) this.#send("message.send", { text }, id);
    }

    #lost(code) {
      this.#socket = null;
      this.#live = false;
      const final = code === 4403 || (code === 4401 && this.#stale);
      this.#stale ||= code === 4401;
      this.#emit(final ? "refused" : "lost");
      if (final) return;
      const pause = Math.min(30000, 500 * 2 ** this.#tries++) * (0.5 + Math.random());
      this.#timer = setTimeout(() => this.connect(), pause);
    }

    #emit(name, detail) {
      this.dispatchEvent(new CustomEvent(name, { detail }));
      if (name === "frame") window.dispatchEvent(new CustomEvent("frugalchat:frame", { detail }));
    }
  }

  // --- what is seen -----------------------------------------------------------------------------
  const STYLE = `
    :host { --tint: var(--frugalchat-color, #2f5bea); --paper: #fff; --ink: #1c2430; --soft: #f1f3f7; --line: #dfe3ea;
      position: fixed; inset: auto 20px 20px auto; z-index: 2147483000; color: var(--ink);
      font: 16px/1.45 system-ui, sans-serif; color-scheme: light dark; }
    @media (prefers-color-scheme: dark) { :host { --paper: #171b22; --ink: #e9edf3; --soft: #242a34; --line: #38404d; } }
    * { box-sizing: border-box; } [hidden] { display: none !important; }
    button { font: inherit; color: inherit; border: 0; background: none; cursor: pointer; padding: 0; }
    :focus-visible { outline: 3px solid var(--tint); outline-offset: 2px; }
    .launcher { width: 58px; height: 58px; border-radius: 50%; background: var(--tint); color: #fff;
      box-shadow: 0 6px 24px #0004; display: grid; place-items: center; transition: transform .15s; }
    .launcher:hover { transform: translateY(-2px); }
    .launcher:focus-visible { outline-color: var(--ink); }
    svg { width: 26px; height: 26px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
    .panel { position: absolute; inset: auto 0 72px auto; width: 380px; height: min(600px, calc(100dvh - 120px)); display: flex;
      flex-direction: column; overflow: hidden; background: var(--paper); border: 1px solid var(--line); border-radius: 18px;
      box-shadow: 0 16px 48px #0003; animation: rise .18s ease-out; }
    @keyframes rise { from { opacity: 0; transform: translateY(12px); } }
    header { display: flex; align-items: center; gap: 8px; padding: 14px 16px; border-bottom: 1px solid var(--line); }
    h2 { font-size: 1rem; margin: 0; flex: 1; } header button, .send { border-radius: 10px; display: grid; place-items: center; }
    header button { width: 36px; height: 36px; }
    .log { flex: 1; overflow-y: auto; padding: 16px; display: flex; flex-direction: column; gap: 10px; overscroll-behavior: contain; }
    .message { max-width: 84%; align-self: flex-start; }
    .message.customer { align-self: flex-end; }
    .text { padding: 9px 13px; border-radius: 14px; background: var(--soft); white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
    .customer .text { background: var(--tint); color: #fff; border-bottom-right-radius: 4px; }
    .message:not(.customer) .text { border-bottom-left-radius: 4px; }
    .who { font-size: .8rem; opacity: .8; } .staff .text { border: 1px solid var(--tint); }
    .waiting .text { opacity: .6; }
    .sources { margin: 3px 4px 0; font-size: .78rem; opacity: .75; overflow-wrap: anywhere; }
    .verdict { display: flex; gap: 2px; margin-top: 2px; }
    .verdict button { width: 30px; height: 30px; border-radius: 8px; opacity: .65; display: grid; place-items: center; }
    .verdict svg { width: 16px; height: 16px; }
    .verdict button:hover, .verdict [aria-pressed=true] { opacity: 1; background: var(--soft); }
    .verdict [aria-pressed=true] svg { fill: currentColor; }
    .status { min-height: 1.45em; margin: 0; padding: 0 16px 6px; font-size: .85rem; opacity: .8; }
    .status.busy::after { content: "…"; animation: blink 1s infinite alternate; } @keyframes blink { to { opacity: .2; } }
    form { display: flex; gap: 8px; align-items: end; padding: 10px 12px 12px; border-top: 1px solid var(--line); }
    textarea { flex: 1; resize: none; font: inherit; color: inherit; background: var(--soft); border: 1px solid transparent;
      border-radius: 12px; padding: 9px 12px; max-height: 140px; field-sizing: content; }
    .send { width: 42px; height: 42px; background: var(--tint); color: #fff; } .send svg { width: 20px; height: 20px; }
    .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
    @media (max-width: 480px) {
      .panel { position: fixed; inset: 0; width: auto; height: 100dvh; border: 0; border-radius: 0; }
      :host([open]) .launcher { display: none; } }
    @media (prefers-reduced-motion: reduce) { *, ::after { animation: none !important; transition: none !important; } }
    @media (forced-colors: active) { .launcher, .send, .text, .panel { border: 1px solid; } }`;

  const ICONS = {
    chat: "M21 12a8 8 0 0 1-8 8H4l2-3a8 8 0 1 1 15-5z", close: "M6 6l12 12M18 6L6 18", send: "M5 12h13M12 5l7 7-7 7",
    stop: "M7 7h10v10H7z", up: "M7 11v9H4v-9zM7 11l4-8c2 0 3 1 3 3l-1 4h5c2 0 2 2 2 3l-2 5c0 1-1 2-2 2H7",
    down: "M7 13V4H4v9zM7 13l4 8c2 0 3-1 3-3l-1-4h5c2 0 2-2 2-3l-2-5c0-1-1-2-2-2H7",
  };

  function make(tag, properties = {}, ...children) {
    const { class: name, ...attributes } = properties;
    const made = document.createElement(tag);
    if (name) made.className = name;
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    made.append(...children);
    return made;
  }

  function icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    svg.append(document.createElementNS(svg.namespaceURI, "path"));
    svg.firstChild.setAttribute("d", ICONS[name]);
    return svg;
  }

  const button = (label, name, properties = {}) =>
    make("button", { type: "button", "aria-label": label, title: label, ...properties }, icon(name));

  const WHO = { customer: "You", assistant: "Assistant", staff: "Staff" };
  const WHO_ANSWERS = { open: "", handed_over: "A colleague will answer here.",
    closed: "This conversation was closed. Your next message begins a new one." };

  class Widget extends HTMLElement {
    #line = new Line();
    #messages = new Map(); // id, or the client's id while it is on its way -> element
    #turn = null; // the client's id of the turn that is being answered here
    #said = ""; // what the log's reader was told last
    #typists = 0; // the timer after which nobody types

    connectedCallback() {
      const root = this.attachShadow({ mode: "open" });
      const style = new CSSStyleSheet(); // allowed where a site's policy forbids inline styles
      style.replaceSync(STYLE);
      root.adoptedStyleSheets = [style];
      if (color) this.style.setProperty("--frugalchat-color", color);
      this.launcher = button("Open chat", "chat", { class: "launcher", "aria-expanded": "false", "aria-haspopup": "dialog" });
      this.log = make("div", { class: "log", role: "log", "aria-live": "polite", "aria-label": "Messages", tabindex: "0" });
      this.status = make("p", { class: "status", role: "status" });
      this.typist = make("p", { class: "status busy", hidden: "" }, "Staff is typing");
      this.input = make("textarea", { id: "message", rows: "1", maxlength: "8000", dir: "auto", placeholder: "Write a message" });
      this.send = make("button", { class: "send", type: "submit" });
      const close = button("Close chat", "close");
      const form = make("form", {}, make("label", { for: "message", class: "unseen" }, "Your message"), this.input, this.send);
      this.panel = make("section", { class: "panel", role: "dialog", "aria-label": "Chat", hidden: "" },
        make("header", {}, make("h2", {}, "Chat"), close), this.log, this.typist, this.status, form);
      root.append(this.panel, this.launcher);
      this.launcher.onclick = () => (this.panel.hidden ? this.open() : this.close());
      close.onclick = () => this.close();
      this.panel.onkeydown = (event) => { if (event.key === "Escape") this.close(); };
      this.input.onkeydown = (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        if (!this.#turn) form.requestSubmit();
      };
      this.input.oninput = () => this.#line.typing(this.input.value !== "");
      form.onsubmit = (event) => {
        event.preventDefault();
        if (this.#turn) this.#stop();
        else this.#say(this.input.value);
      };
      this.#line.addEventListener("frame", ({ detail }) => this.#show(detail));
      this.#line.addEventListener("changed", () => this.#clear());
      this.#line.addEventListener("lost", () => this.#tell("Connecting again", true));
      this.#line.addEventListener("refused", () => this.#tell("The chat is not available here."));
      this.#answering(null);
    }

    open(text = "") {
      this.panel.hidden = false;
      this.toggleAttribute("open", true);
      this.launcher.setAttribute("aria-expanded", "true");
      if (text) this.input.value = text;
      this.input.focus();
      this.#line.connect();
    }

    close() {
      this.panel.hidden = true;
      this.removeAttribute("open");
      this.launcher.setAttribute("aria-expanded", "false");
      this.launcher.focus();
    }

    identify(jwt) { this.#line.identify(jwt); }

    #say(text) {
      if (!text.trim()) return;
      this.input.value = "";
      this.#line.connect();
      this.#line.typing(false);
      const id = this.#line.say(text);
      this.#message(id, "customer", text).classList.add("waiting");
      this.#answering(id);
    }

    #stop() {
      this.#line.stop();
      this.#answering(null);
    }

    #clear() {
      this.log.replaceChildren();
      this.#messages.clear();
      this.#answering(null);
      this.#typed(false);
      this.#tell("");
    }

    #show({ event, data, message_id, reply_to }) {
      if (event === "session.ready") this.#tell(WHO_ANSWERS[data.state]);
      if (event === "history.page") for (const message of data.messages) this.#settled(message);
      if (event === "ack" && data.turn_id) this.#acknowledged(reply_to, data);
      if (event === "message.created") this.#settled(data, reply_to);
      if (event === "stream.chunk") this.#chunk(data, message_id, reply_to);
      if (event === "handoff.updated") this.#tell(WHO_ANSWERS[data.state]);
      if (event === "typing" && data.role === "staff") this.#typed(data.on);
      if (event === "problem") this.#problem(data, reply_to);
    }

    #typed(on) {
      clearTimeout(this.#typists);
      this.typist.hidden = !on;
      if (on) this.#typists = setTimeout(() => this.#typed(false), 12000);
    }

    #acknowledged(id, { state }) {
      this.#messages.get(id)?.classList.remove("waiting");
      if (id === this.#turn && state !== "open") this.#answering(null); // a person answers, or it was answered
    }

    #settled(message, reply_to) {
      const own = message.role === "customer" && this.#messages.get(reply_to);
      if (own) this.#messages.set(message.id, own);
      const element = this.#message(message.id, message.role, message.text);
      element.classList.remove("waiting");
      if (message.role === "customer") return;
      if (message.role === "staff") this.#typed(false);
      if (!element.querySelector(".verdict")) element.append(this.#verdict(message));
      if (reply_to === this.#turn) this.#answering(null);
    }

    #chunk(chunk, message_id, reply_to) {
      if (chunk.type === "text-delta") {
        this.log.setAttribute("aria-busy", "true"); // read aloud when it is whole
        this.#tell("");
        const element = this.#message(message_id, "assistant");
        element.querySelector(".text").append(chunk.delta);
        this.#follow();
      }
      if (chunk.type === "source-document") this.#source(message_id, chunk.title);
      if (chunk.type === "abort") this.#tell("Stopped.");
      if (chunk.type === "error") this.#tell("The answer was interrupted. Please ask again.");
      if (["finish", "abort", "error"].includes(chunk.type) && reply_to === this.#turn) this.#answering(null);
    }

    #source(message_id, title) {
      const element = this.#message(message_id, "assistant");
      const sources = element.querySelector(".sources");
      if (sources) sources.append(` · ${title}`);
      else element.querySelector(".text").after(make("p", { class: "sources", dir: "auto" }, `From: ${title}`));
      this.#follow();
    }

    #problem({ code, title }, reply_to) {
      const asked = this.#messages.get(reply_to);
      if (code === "busy" || !asked) return;
      this.#answering(null);
      this.#tell(`${title}. Please try again.`);
      if (!asked.classList.contains("waiting")) return; // it is on record, but nobody answers
      this.input.value ||= asked.querySelector(".text").textContent;
      asked.remove();
      this.#messages.delete(reply_to);
    }

    #message(id, role, text) {
      let element = this.#messages.get(id);
      if (!element) {
        element = make("div", { class: `message ${role}` },
          make("span", { class: role === "staff" ? "who" : "unseen" }, `${WHO[role]}: `),
          make("p", { class: "text", dir: "auto" }));
        this.#messages.set(id, element);
        this.log.append(element);
      }
      if (text !== undefined) element.querySelector(".text").textContent = text;
      this.#follow();
      return element;
    }

    #verdict({ id, rating }) {
      const buttons = [["Good answer", "up", 1], ["Bad answer", "down", -1]].map(([label, name, value]) => {
        const made = button(label, name, { "aria-pressed": String(rating === value) });
        made.onclick = () => {
          this.#line.rate(id, value);
          for (const each of buttons) each.setAttribute("aria-pressed", String(each === made));
        };
        return made;
      });
      return make("div", { class: "verdict", role: "group", "aria-label": "Was this helpful?" }, ...buttons);
    }

    #answering(id) {
      this.#turn = id;
      const label = id ? "Stop" : "Send";
      this.send.replaceChildren(icon(label.toLowerCase()));
      this.send.setAttribute("aria-label", label);
      this.send.title = label;
      this.log.setAttribute("aria-busy", "false");
      if (id) this.#tell("Looking into it", true);
      else if (this.status.classList.contains("busy")) this.#tell("");
    }

    #tell(text, busy = false) {
      this.status.classList.toggle("busy", busy);
      if (this.#said !== text) this.status.textContent = this.#said = text;
    }

    #follow() { this.log.scrollTop = this.log.scrollHeight; }
  }

  customElements.define("frugal-chat", Widget);
  const widget = document.createElement("frugal-chat");
  window.frugalchat = Object.assign(site, {
    open: (text) => widget.open(text),
    close: () => widget.close(),
    identify: (jwt) => widget.identify(jwt),
    on: (name, fn) => addEventListener("frugalchat:frame", ({ detail }) => detail.event === name && fn(detail)),
  });
  const place = () => document.body.append(widget);
  if (document.body) place();
  else addEventListener("DOMContentLoaded", place);
})();
