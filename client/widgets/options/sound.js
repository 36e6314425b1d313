/**
 * `<notifier-toasts sound>`: a short tone for each message that is shown; `sound="/ding.mp3"`: that file instead.
 *
 * Browsers play nothing before the user's first click or key in the page. Of several tabs, the visible one plays.
 *
 * Owns: the tone. Must not know: what is shown.
 */

const HERTZ = 660;
const VOLUME = 0.08;
const TONE_S = 0.35;

/** @param {import("../base.js").Listening} toasts */
export function begin(toasts) {
  /** @type {AudioContext | undefined} */
  let audio;
  const listen = (/** @type {import("../../types.js").News} */ news) => {
    if (news.kind !== "message" || document.hidden || !navigator.userActivation?.hasBeenActive) return;
    const source = toasts.getAttribute("sound");
    if (source) return void new Audio(source).play().catch(() => {});
    audio ??= new AudioContext();
    play(audio);
  };
  toasts.listeners.add(listen);
  return () => {
    toasts.listeners.delete(listen);
    audio?.close();
  };
}

/** @param {AudioContext} audio */
function play(audio) {
  const tone = new OscillatorNode(audio, { frequency: HERTZ });
  const volume = new GainNode(audio, { gain: VOLUME });
  volume.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + TONE_S);
  tone.connect(volume).connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + TONE_S);
}
