// Polls the API for the refresh in data-follow, and reloads the page when that refresh has ended.
"use strict";

(() => {
  const SECONDS = 2;
  const notice = document.querySelector("[data-follow]");
  if (!notice) return;
  const state = notice.querySelector(".state");

  async function look() {
    try {
      const response = await fetch(notice.dataset.follow, { headers: { Accept: "application/json" } });
      if (response.status === 401 || response.status === 403) return location.reload();
      if (response.ok) {
        const run = await response.json();
        if (run.finished_at) return location.reload();
        state.textContent = run.status;
      } else {
        state.textContent = `in progress; the server responded with status ${response.status}`;
      }
    } catch {
      state.textContent = "in progress; the server cannot be reached";
    }
    setTimeout(look, SECONDS * 1000);
  }

  setTimeout(look, 500);
})();
