// The demo page: signs the picked customer in, and shows how the last answer was made.
const receipt = document.getElementById("receipt");
const customers = document.getElementById("customers");

const element = (tag, className, ...children) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
};

async function signIn() {
  const answer = await fetch("/demo/identity", { method: "POST", body: new FormData(customers) });
  return (await answer.json()).jwt;
}
