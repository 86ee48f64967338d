"use strict";
(() => {
	// A table that is wider than the page says that it scrolls; nothing else shows it on a phone.
	const boxes = document.querySelectorAll(".scroll");
	const wide = () => boxes.forEach((box) => {
		const more = box.scrollWidth - box.clientWidth > 1;
		const said = box.previousElementSibling?.classList.contains("hint") ? box.previousElementSibling : null;
		box.classList.toggle("wide", more);
		box.classList.toggle("end", more && box.scrollLeft + box.clientWidth >= box.scrollWidth - 1);
		if (more && !said) {
			const hint = document.createElement("p");
			hint.className = "hint";
			hint.textContent = "scroll sideways \u2192";
			box.before(hint);
		}
		if (!more && said) said.remove();
	});
	wide();
	addEventListener("resize", wide);
	document.querySelectorAll("details").forEach((item) => item.addEventListener("toggle", wide));
	boxes.forEach((box) => box.addEventListener("scroll", wide, { passive: true }));
})();
