/** The elements in React's JSX (19 and newer). Types only. */

import type { DetailedHTMLProps, HTMLAttributes } from "react";
import type { NotifierAttributes, NotifierElements } from "../elements.js";

type Elements = {
  [Name in keyof NotifierElements]: DetailedHTMLProps<HTMLAttributes<NotifierElements[Name]>, NotifierElements[Name]> &
    NotifierAttributes[Name];
};

declare module "react" {
  namespace JSX {
    interface IntrinsicElements extends Elements {}
  }
}
