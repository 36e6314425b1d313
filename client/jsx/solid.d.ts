/** The elements in Solid's JSX. Types only. */

import type { JSX } from "solid-js";
import type { NotifierAttributes, NotifierElements } from "../elements.js";

type Elements = {
  [Name in keyof NotifierElements]: JSX.HTMLAttributes<NotifierElements[Name]> & NotifierAttributes[Name];
};

declare module "solid-js" {
  namespace JSX {
    interface IntrinsicElements extends Elements {}
  }
}
