// Finding files in a migration's report; inlined into the page.
const find = document.getElementById("find");
const which = document.getElementById("which");
const rows = [...document.querySelectorAll("#all tbody tr")];

function show() {
  const words = find.value.toLowerCase();
  let count = 0;
  for (const row of rows) {
    const on = row.textContent.toLowerCase().includes(words) && (!which.value || row.dataset.status === which.value);
    row.hidden = !on;
    count += on;
  }
  document.getElementById("shown").textContent = count + " shown";
}

function unfold() {
  const part = document.getElementById(location.hash.slice(1));
  if (part && part.tagName === "DETAILS") part.open = true;
}

find.addEventListener("input", show);
which.addEventListener("change", show);
addEventListener("hashchange", unfold);
show();
unfold();
