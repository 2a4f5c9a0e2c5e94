// Asks the API how the refresh with data-follow does, and shows the page anew when it has ended.
"use strict";

(() => {
  const SECONDS = 2;
  const notice = document.querySelector("[data-follow]");
  if (!notice) return;
  const state = notice.querySelector(".state");

  async function look() {
    try {
      const answer = await fetch(notice.dataset.follow, { headers: { Accept: "application/json" } });
      if (answer.status === 401 || answer.status === 403) return location.reload();
      if (answer.ok) {
        const run = await answer.json();
        if (run.finished_at) return location.reload();
        state.textContent = run.status;
      } else {
        state.textContent = `in progress; the server said ${answer.status}`;
      }
    } catch {
      state.textContent = "in progress; the server cannot be reached";
    }
    setTimeout(look, SECONDS * 1000);
  }

  setTimeout(look, 500);
})();
