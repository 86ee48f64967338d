"use strict";
(() => {
	const one = (selector, root = document) => root.querySelector(selector);
	const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
	const make = (tag, properties, ...inside) => {
		const element = Object.assign(document.createElement(tag), properties);
		element.append(...inside);
		return element;
	};
	document.documentElement.classList.add("live");

	// What is chosen stands in the address: #utt=ID&sort=-after&q=WORD&from=100; "-" sorts downwards.
	let state = new URLSearchParams();
	const read = () => {
		const hash = location.hash.slice(1);
		if (!hash.includes("=")) return false;
		state = new URLSearchParams(hash);
		return true;
	};
	const set = (changes) => {
		for (const [name, value] of Object.entries(changes)) {
			if (value) state.set(name, value); else state.delete(name);
		}
		history.replaceState(null, "", `#${state}`);
	};
	read();

	// The table of all utterances: sorted, searched, a window of rows at a time.
	const table = one("#all");
	if (table) {
		const data = JSON.parse(one("#data").textContent);
		const count = data.name.length;
		const WINDOW = 100;
		const heads = all("thead th", table);
		const keys = heads.map((head) => head.dataset.key);
		const text = (key, i) => (key === "speaker" ? data.speakers[data.speaker[i]] : data[key][i]);
		const words = data.name.map((name, i) =>
			[name, data.text[i], data.speaker.length ? text("speaker", i) : ""].join("\n").toLowerCase());
		const [shown, search, back, next, picked] = ["#shown", "#q", "#prev", "#next", "#picked"].map((id) => one(id));
		const row = (i) => {
			const name = make("bdi", { textContent: data.name[i] });
			const address = new URLSearchParams(state);
			address.set("utt", data.name[i]);
			const cells = keys.map((key) => {
				if (key === "name") return make("th", { scope: "row" }, make("a", { href: `#${address}` }, name));
				if (key === "speaker" || key === "text") {
					const cell = make("td", { dir: key === "text" ? ["auto", "ltr", "rtl"][data.dir[i] ?? data.dir[0]] : "" });
					cell.append(make("bdi", { textContent: text(key, i) || (key === "speaker" ? "not given" : "") }));
					return cell;
				}
				return make("td", { className: "n", textContent: data[key][i] ?? "none" });
			});
			const line = make("tr", {}, ...cells);
			if (data.name[i] === state.get("utt")) line.setAttribute("aria-current", "true");
			return line;
		};
		const draw = () => {
			const sort = state.get("sort") || `-${table.dataset.first}`;
			const down = sort.startsWith("-");
			const key = keys.includes(sort.replace("-", "")) ? sort.replace("-", "") : table.dataset.first;
			const query = (state.get("q") || "").toLowerCase();
			const order = [];
			for (let i = 0; i < count; i += 1) if (words[i].includes(query)) order.push(i);
			const values = Array.isArray(data[key]) && key !== "speaker" ? data[key] : data.name.map((_, i) => text(key, i));
			const { compare } = new Intl.Collator(undefined, { numeric: true });
			order.sort((a, b) => {
				const [x, y] = [values[a], values[b]];
				if (x === null || y === null) return (x === null) - (y === null);
				return (down ? -1 : 1) * (typeof x === "string" ? compare(x, y) : x - y);
			});
			heads.forEach((head, k) => {
				if (keys[k] === key) head.setAttribute("aria-sort", down ? "descending" : "ascending");
				else head.removeAttribute("aria-sort");
			});
			const last = Math.max(Math.ceil(order.length / WINDOW) - 1, 0) * WINDOW;
			const from = Math.min(Math.max(Number.parseInt(state.get("from"), 10) || 0, 0), last);
			const rows = order.slice(from, from + WINDOW);
			table.tBodies[0].replaceChildren(...rows.map(row));
			back.disabled = from === 0;
			next.disabled = from >= last;
			back.onclick = () => { set({ from: String(Math.max(from - WINDOW, 0)) }); draw(); };
			next.onclick = () => { set({ from: String(from + WINDOW) }); draw(); };
			const range = order.length ? `${from + 1} to ${from + rows.length} of ` : "";
			shown.textContent = `${range}${order.length.toLocaleString("en")} utterance${order.length === 1 ? "" : "s"}`;
			if (search.value !== (state.get("q") || "")) search.value = state.get("q") || "";
		};
		const pick = () => {
			picked.replaceChildren();
			const name = state.get("utt");
			if (!name) return;
			const i = data.name.indexOf(name);
			const here = all("[data-utt]").find((item) => item.dataset.utt === name);
			if (i < 0 && !here) {
				picked.textContent = `No utterance is called ${name}.`;
			} else if (here) {
				picked.append(make("p", {}, make("a", { href: `#${here.id}`, textContent: "It is shown in full above." })));
				here.scrollIntoView();
			} else {
				const facts = make("dl", {});
				keys.forEach((key, k) => facts.append(
					make("dt", { textContent: heads[k].textContent }), make("dd", { dir: "auto", textContent: text(key, i) ?? "none" })));
				picked.append(make("h3", { textContent: "Chosen" }), facts, make("p", {
					className: "fine", textContent: "To see and hear it, make the report again with --utterance and this id.",
				}));
				picked.scrollIntoView({ block: "center" });
			}
		};
		heads.forEach((head, k) => {
			const button = make("button", { type: "button", textContent: head.textContent });
			head.replaceChildren(button);
			button.addEventListener("click", () => {
				const now = head.getAttribute("aria-sort");
				const first = ["name", "speaker", "text"].includes(keys[k]) ? "" : "-";
				const mark = now ? (now === "descending" ? "" : "-") : first;
				set({ sort: mark + keys[k], from: "" });
				draw();
			});
		});
		search.addEventListener("input", () => { set({ q: search.value, from: "" }); draw(); });
		one("#tools").hidden = false;
		addEventListener("hashchange", () => { if (read()) { draw(); pick(); } });
		draw();
		pick();
	}

	// One player for all sounds of an utterance: they take turns at the same moment.
	const start = (audio) => audio.play().catch(() => {});
	for (const player of all(".player")) {
		const figures = all("figure", player);
		if (figures.length < 2) continue;
		const sound = (k) => one("audio", figures[k]);
		let at = 0;
		const choose = (k) => {
			const [old, now] = [sound(at), sound(k)];
			figures.forEach((figure, j) => { figure.hidden = j !== k; });
			if (k === at) return;
			const going = !old.paused;
			old.pause();
			now.currentTime = Math.min(old.currentTime, Number.isFinite(now.duration) ? now.duration : old.currentTime);
			at = k;
			if (going) start(now);
		};
		const panel = make("fieldset", {}, make("legend", { textContent: "Sound" }));
		const radios = figures.map((figure, k) => {
			const radio = make("input", { type: "radio", name: player.parentNode.id, checked: k === 0 });
			radio.addEventListener("change", () => choose(k));
			panel.append(make("label", {}, radio, ` ${k + 1} ${figure.dataset.sound}`));
			return radio;
		});
		panel.addEventListener("keydown", (event) => {
			const k = Number(event.key) - 1;
			if (event.key === " ") {
				event.preventDefault();
				if (sound(at).paused) start(sound(at)); else sound(at).pause();
			} else if (radios[k]) {
				radios[k].checked = true;
				radios[k].focus();
				choose(k);
			}
		});
		player.prepend(panel);
		choose(0);
	}
	document.addEventListener("play", (event) => {
		if (!event.target.paused) all("audio").forEach((other) => { if (other !== event.target) other.pause(); });
	}, true);

	// Commands and parameters: a button that copies them.
	const copy = async (source) => {
		try {
			await navigator.clipboard.writeText(source.textContent);
			return "copied";
		} catch {
			getSelection().selectAllChildren(source);
			return "selected";
		}
	};
	for (const source of all("[data-copy]")) {
		const what = source.tagName === "CODE" ? `copy ${source.textContent}` : "copy this text";
		const button = make("button", { type: "button", textContent: "copy", ariaLabel: what });
		source.after(button);
		button.addEventListener("click", async () => {
			button.textContent = await copy(source);
			setTimeout(() => { button.textContent = "copy"; }, 1500);
		});
	}

	// Print everything.
	addEventListener("beforeprint", () => all("details").forEach((item) => { item.open = true; }));
})();
