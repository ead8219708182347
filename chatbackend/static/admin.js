// What django-unfold lets be clicked alone can be reached and pressed by keyboard too, and has a name.
const NAMES = { sidebar: "Menu", openUserLinks: "Account", openTheme: "Theme", showPassword: "Show the password" };

document.addEventListener("DOMContentLoaded", () => {
  for (const each of document.querySelectorAll("[x-on\\:click]:not(a[href], button, input, #changelist-filter-close)")) {
    const word = Object.keys(NAMES).find((name) => each.getAttribute("x-on:click").includes(name));
    Object.assign(each, { tabIndex: 0, role: "button" }, word && { ariaLabel: NAMES[word] });
    each.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      each.click();
    });
  }
});

// A page that asks again by itself, and is sent to the login page meanwhile, goes there as a whole.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!event.detail.xhr.responseURL.includes("/login/")) return;
  event.detail.shouldSwap = false;
  location.reload();
});
