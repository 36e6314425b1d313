/**
 * `<notifier-bell favicon-count>`: the number of unread messages on the page's icon. A Content-Security-Policy must
 * allow `img-src data:`.
 *
 * Owns: the icon's link while there are unread messages. Must not know: what they are.
 */

const SIZE_PX = 64;

/** @param {unknown} _bell @param {import("../base.js").Store} store */
export function begin(_bell, store) {
  const known = /** @type {HTMLLinkElement | null} */ (document.querySelector("link[rel~=icon]"));
  const own = known ?? document.head.appendChild(Object.assign(document.createElement("link"), { rel: "icon" }));
  const before = known?.getAttribute("href") ?? "/favicon.ico";
  const image = new Image();
  let shown = 0;
  const put = async (/** @type {number} */ unread) => {
    if (unread === shown) return;
    shown = unread;
    await image.decode().catch(() => {}); // without its picture the icon is the number alone
    if (unread !== shown) return; // a later number was drawn
    own.href = unread ? draw(image, unread) : before;
  };
  image.src = before;
  const stop = store.subscribe(({ unread }) => put(unread));
  return () => {
    stop();
    put(0);
  };
}

/**
 * @param {HTMLImageElement} image
 * @param {number} unread
 */
function draw(image, unread) {
  const canvas = Object.assign(document.createElement("canvas"), { width: SIZE_PX, height: SIZE_PX });
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const radius = SIZE_PX * 0.3;
  if (image.naturalWidth && new URL(image.src).origin === location.origin) pen.drawImage(image, 0, 0, SIZE_PX, SIZE_PX);
  pen.fillStyle = "#b3261e";
  pen.beginPath();
  pen.arc(SIZE_PX - radius, radius, radius, 0, 2 * Math.PI);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.font = `bold ${radius * 1.5}px sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(unread > 9 ? "9+" : String(unread), SIZE_PX - radius, radius, radius * 1.7);
  return canvas.toDataURL();
}
