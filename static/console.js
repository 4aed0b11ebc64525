// Behaviour of the frame. Everything works without it, just less conveniently.
"use strict";
(() => {
  const root = document.documentElement;
  const dialog = document.getElementById("dialog");
  const toasts = document.getElementById("toasts");
  const on = (name, act) => document.addEventListener(name, act);

  // Theme: system → light → dark, remembered in this browser.
  const themes = ["system", "light", "dark"];
  const themeButton = document.getElementById("theme-button");
  const showTheme = () => {
    const theme = root.dataset.theme || "system";
    if (!themeButton) return;
    themeButton.title = themeButton.ariaLabel = `Theme: ${theme}`;
    themeButton.querySelector("use").setAttribute("href", `#icon-theme-${theme}`);
  };
  themeButton?.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    localStorage.setItem("theme", next);
    showTheme();
  });
  showTheme();

  const toast = (text, tone = "ok") => {
    const element = document.getElementById("toast-template").content.firstElementChild.cloneNode(true);
    element.classList.add(`toast-${tone}`);
    element.querySelector("use").setAttribute("href", `#icon-state-${tone}`);
    element.querySelector(".toast-text").textContent = text;
    toasts.append(element);
    fade(element);
  };
  const fade = (element) => element.matches(".toast-ok") && setTimeout(() => element.remove(), 7000);
  toasts?.querySelectorAll(".toast").forEach(fade);
  on("toast", (event) => toast(event.detail.text, event.detail.tone));

  // Menus: only one is open at a time; positioned so that a scrolling table does not clip it.
  const openMenus = () => document.querySelectorAll("details.menu[open]");
  const closeMenus = (except) => openMenus().forEach((menu) => { menu.open = menu === except; });
  const placeMenu = (menu) => {
    const box = menu.querySelector("[role=menu]");
    const anchor = menu.querySelector("summary").getBoundingClientRect();
    Object.assign(box.style, { position: "fixed", right: "auto", left: 0, top: 0 });
    box.style.left = `${Math.max(8, Math.min(anchor.right - box.offsetWidth, innerWidth - box.offsetWidth - 8))}px`;
    const fitsBelow = anchor.bottom + box.offsetHeight + 8 < innerHeight || anchor.top < box.offsetHeight + 8;
    box.style.top = `${fitsBelow ? anchor.bottom + 4 : anchor.top - box.offsetHeight - 4}px`;
  };
  document.addEventListener("toggle", (event) => {
    if (!event.target.matches("details.menu")) return;
    event.target.querySelector("summary").ariaExpanded = event.target.open;
    if (!event.target.open) return;
    closeMenus(event.target);
    placeMenu(event.target);
  }, true);
  const follow = () => openMenus().forEach(placeMenu);
  addEventListener("resize", follow);
  document.addEventListener("scroll", (event) => event.target.closest?.("[role=menu]") || follow(), true);

  // Clicks: outside a menu, on a close button, on an expander, on the navigation button.
  on("click", (event) => {
    const target = event.target;
    const item = target.closest("[role=menuitem]");
    if (!target.closest("details.menu") || (item && item.ariaDisabled !== "true")) closeMenus();
    if (target.closest("[aria-disabled=true]")) event.preventDefault();
    if (target.closest(".toast-close")) target.closest(".toast").remove();
    if (dialog?.contains(target) && target.closest("[data-close]")) { event.preventDefault(); dialog.close(); }
    const expander = target.closest(".expander");
    if (expander) setExpanded(expander, expander.ariaExpanded !== "true");
    if (target.closest("#navigation-button")) {
      const open = root.dataset.navigation !== "open";
      root.dataset.navigation = open ? "open" : "";
      target.closest("#navigation-button").ariaExpanded = open;
    }
  });
  const setExpanded = (expander, expanded) => {
    expander.ariaExpanded = expanded;
    for (const id of expander.getAttribute("aria-controls").split(" ")) document.getElementById(id).hidden = !expanded;
    sessionStorage.setItem(`expanded:${expander.id}`, expanded);
  };
  const restoreExpanded = (within) => within.querySelectorAll(".expander[id]").forEach((expander) => {
    const kept = sessionStorage.getItem(`expanded:${expander.id}`);
    if (kept !== null) setExpanded(expander, kept === "true");
  });
  restoreExpanded(document);

  // Keys: arrows and Escape in menus.
  on("keydown", (event) => {
    const menu = event.target.closest?.("details.menu");
    if (event.key === "Escape" && menu?.open) {
      event.preventDefault();
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    if (!menu || !["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    menu.open = true;
    const items = [...menu.querySelectorAll("[role=menuitem]")];
    const at = items.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at < 0 ? -1 : at - 1, Home: 0, End: -1 }[event.key];
    items.at(next >= items.length ? 0 : next)?.focus();
  });

  // Dialog: opens right away with its title, and is filled by the swap. A click on the backdrop closes it.
  dialog?.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog?.addEventListener("close", () => dialog.replaceChildren());
  on("close-dialog", () => dialog.close());
  on("htmx:beforeRequest", (event) => {
    if (event.detail.target !== dialog || dialog.open) return;
    dialog.append(document.getElementById("dialog-loading").content.cloneNode(true));
    dialog.querySelector("h2").textContent = event.detail.elt.innerText.trim();
    dialog.showModal();
  });
  on("htmx:afterRequest", () => dialog?.querySelector(".dialog-loading") && dialog.close());
  on("htmx:afterSwap", ({ detail }) => {
    const wantsFocus = detail.target === dialog && !document.activeElement?.closest("#dialog form");
    if (wantsFocus) dialog.querySelector("[autofocus], input:not([type=hidden]), select, button")?.focus();
    restoreExpanded(document);
  });

  // A form is checked again after a change; a response is not shown if the form has changed since.
  const written = (elt) =>
    elt.matches("form [hx-trigger^=change]") ? `${new URLSearchParams(new FormData(elt.closest("form")))}` : "";
  on("htmx:beforeRequest", ({ detail }) => { detail.elt.asked = written(detail.elt); });
  const isStale = (elt) => elt.asked !== written(elt);
  on("htmx:beforeSwap", ({ detail }) => { if (isStale(detail.requestConfig.elt)) detail.shouldSwap = false; });

  // A refusal (409, 403) is shown in the dialog that sent the request, otherwise as a toast.
  on("htmx:beforeSwap", (event) => {
    if (![403, 409].includes(event.detail.xhr.status)) return;
    const refusal = event.detail.requestConfig.elt.closest("dialog")?.querySelector(".refusal");
    event.detail.target = refusal || toasts;
    event.detail.swapOverride = refusal ? "innerHTML" : "beforeend";
  });
  on("htmx:responseError", (event) => {
    const gone = event.detail.xhr.status === 404 && "This no longer exists. Reload the page.";
    toast(gone || "The console could not do that. See its log for the reason.", "bad");
  });

  // Polling pauses while the page is hidden or a menu in it is open. A lost console is announced.
  on("htmx:beforeRequest", (event) => {
    const element = event.detail.elt;
    const polls = (element.getAttribute("hx-trigger") || "").includes("every");
    if (polls && (document.hidden || element.querySelector("details[open].menu"))) event.preventDefault();
  });
  const lost = document.getElementById("connection-lost");
  on("htmx:sendError", () => { lost.hidden = false; });
  on("htmx:afterOnLoad", () => { lost.hidden = true; });
})();
