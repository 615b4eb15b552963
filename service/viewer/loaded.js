/** Waits for a script that is loaded where it is needed. */

/**
 * Gives what a script holds, or says what is not there without it.
 *
 * @template T
 * @param {Promise<T>} script an `import(...)`.
 * @param {string} what it is for.
 * @returns {Promise<T>}
 */
export const loaded = (script, what) =>
  script.catch(() => {
    throw new Error(
      `${what} was not loaded: see whether \`circuit-atlas serve\` still runs, then load the page anew`,
    );
  });
