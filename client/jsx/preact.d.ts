/** The elements in Preact's JSX. Types only. */

import type { HTMLAttributes } from "preact";
import type { NotifierAttributes, NotifierElements } from "../elements.js";

type Elements = {
  [Name in keyof NotifierElements]: HTMLAttributes<NotifierElements[Name]> & NotifierAttributes[Name];
};

declare module "preact" {
  namespace JSX {
    interface IntrinsicElements extends Elements {}
  }
}
