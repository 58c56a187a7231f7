// What the theme adds to a page while it loads, made usable with a keyboard and a screen reader.
function mend() {
  // A table or code that is wider than the screen can be scrolled with the arrow keys.
  for (const part of document.querySelectorAll(".md-typeset__scrollwrap, pre > code")) {
    part.tabIndex = 0;
  }
  // The buttons of each block have a name of their own.
  document.querySelectorAll("nav.md-code__nav").forEach((buttons, number) => {
    buttons.setAttribute("aria-label", `Code ${number + 1}`);
  });
  // Two classes may have a member of the same name, and so two lists of that name.
  const named = new Set();
  for (const list of document.querySelectorAll("nav.md-nav[aria-label]")) {
    const label = list.getAttribute("aria-label");
    const free = named.has(label.trim().toLowerCase()) ? `${label} (${named.size})` : label;
    if (free !== label) list.setAttribute("aria-label", free);
    named.add(free.trim().toLowerCase());
  }
  document.querySelector(".md-search[role=dialog]")?.setAttribute("aria-label", "Search");
}

mend();
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
