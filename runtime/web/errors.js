/** Errors raised on purpose, by their names in Python: one line that says what was asked, found and is to do. */
export class ProPETLError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** A key or an argument of the user's is wrong. */
export class ConfigurationError extends ProPETLError {}

/** A task pack is damaged, foreign or of an unknown version. */
export class BundleError extends ProPETLError {}

/** An artifact is damaged, foreign or of an unknown version. */
export class ArtifactError extends ProPETLError {}

/** A task is unknown, or does not fit what it is used with. */
export class TaskError extends ProPETLError {}

/** The numbers computed for a row are not finite, so they are no answer. */
export class AnswerError extends ProPETLError {}

/** What was asked for cannot run here. */
export class BackendError extends ProPETLError {}

/** The first line of what a library threw. @param {unknown} error */
export const reason = (error) => String(error instanceof Error ? error.message : error).trim().split("\n")[0];
