"use strict";
const at = (id) => document.getElementById(id);
let card = null;
let tab = "curl";

// The token may come after '#', which browsers never send to a server; it is taken out of the address at once.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  at("token").value = given;
  history.replaceState(null, "", location.pathname);
}

async function call(method, path, body) {
  const headers = { authorization: "Bearer " + at("token").value };
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const data = await response.json();
  if (!response.ok) throw new Error(data.error || response.statusText);
  return data;
}

function say(text, bad) {
  at("state").textContent = text;
  at("state").className = bad ? "bad" : "";
}

async function loadModels() {
  if (!at("token").value) return say("Paste a token to try the models.");
  try {
    const { models } = await call("GET", "/v1/models");
    at("models").replaceChildren(...models.map((model) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = model.name;
      button.title = `version ${model.champion}, ${model.state}`;
      button.addEventListener("click", () => show(model.name));
      item.append(button);
      return item;
    }));
    say(`${models.length} models`);
    if (models.length) await show(models[0].name);
  } catch (error) {
    say(error.message, true);
  }
}

function fields() {
  return card.inputs.flatMap((input) => input.columns
    ? input.columns.map((name) => ({ name, type: input.datatype, packed: true }))
    : [{ name: input.name, type: input.datatype, packed: false, shape: input.shape.slice(1) }]);
}

async function show(name) {
  card = await call("GET", "/v1/models/" + encodeURIComponent(name));
  for (const button of at("models").querySelectorAll("button")) {
    button.toggleAttribute("aria-current", button.textContent === name);
  }
  at("model").hidden = false;
  at("name").textContent = name;
  const classes = card.classes.length ? ` Classes: ${card.classes.join(", ")}.` : "";
  at("about").textContent = `Version ${card.champion} answers; it is ${card.state}.${classes}` + (card.cause ? ` ${card.cause}` : "");
  at("row").replaceChildren(...fields().map((field) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.name = field.name;
    input.placeholder = !field.packed ? "JSON" + JSON.stringify(field.shape) : field.type === "FP32" ? "number" : field.type === "INT64" ? "2026-01-31" : "text";
    input.addEventListener("input", showCode);
    label.append(field.name, input);
    return label;
  }));
  at("answer").textContent = "";
  at("took").textContent = "";
  showCode();
}

function row() {
  const found = {};
  for (const field of fields()) {
    const text = at("row").elements.namedItem(field.name).value.trim();
    if (text === "") continue;
    if (!field.packed || field.type === "FP32") {
      try { found[field.name] = JSON.parse(text); } catch { found[field.name] = text; }
    } else {
      found[field.name] = text;
    }
  }
  return found;
}

function body() {
  return at("explain").checked ? { rows: [row()], explain: true } : { rows: [row()] };
}

function showCode() {
  const quoted = JSON.stringify(body());
  const path = `/v1/models/${encodeURIComponent(card.name)}/predict`;
  const inputs = card.inputs.map((input) => ({
    name: input.name, datatype: input.datatype, shape: [1, ...input.shape.slice(1)], data: ["..."],
  }));
  at("code").textContent = {
    curl: `curl -sS ${location.origin}${path} \\\n  -H "Authorization: Bearer $MODELWORKS_TOKEN" -H "Content-Type: application/json" \\\n  -d '${quoted.replaceAll("'", "'\\''")}'`,
    python: `import modelworks as mw\n\nwith mw.Client("${location.origin}") as client:\n    print(client.predict("${card.name}", ${JSON.stringify([row()])}))`,
    protocol: `POST ${location.origin}/v2/models/${encodeURIComponent(card.name)}/infer\n\n${JSON.stringify({ inputs }, null, 2)}`,
  }[tab];
}

at("send").addEventListener("click", async () => {
  const started = performance.now();
  try {
    const answer = await call("POST", `/v1/models/${encodeURIComponent(card.name)}/predict`, body());
    at("answer").className = "";
    at("answer").textContent = JSON.stringify(answer, null, 2);
  } catch (error) {
    at("answer").className = "bad";
    at("answer").textContent = error.message;
  }
  at("took").textContent = `${(performance.now() - started).toFixed(1)} ms`;
});
at("explain").addEventListener("change", showCode);
at("token").addEventListener("change", loadModels);
at("copy").addEventListener("click", () => navigator.clipboard.writeText(at("code").textContent));
for (const button of document.querySelectorAll("[data-tab]")) {
  button.addEventListener("click", () => { tab = button.dataset.tab; showCode(); });
}

(async () => {
  const document_ = await (await fetch("/openapi.json")).json();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const line = at("routes").insertRow();
      for (const text of [method.toUpperCase(), path, operation["x-token"], operation.summary]) line.insertCell().textContent = text;
    }
  }
  await loadModels();
})();
