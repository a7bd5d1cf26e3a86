// The whole start: elements wake up by themselves wherever the server, or htmx, puts them.

import "./elements/toast_rack.js";
import "./elements/theme_toggle.js";
import "./elements/form_dialog.js";
import "./elements/copy_link.js";
import "./elements/side_drawer.js";
import "./elements/worker_pill.js";
import "./elements/param_panel.js";
import "./elements/prompt_editor.js";
import "./elements/answer_text.js";
import "./elements/token_view.js";
import "./elements/token_card.js";
import "./elements/token_bar.js";
import "./elements/strength_dial.js";
import "./elements/proof_badge.js";
import "./elements/used_details.js";
import "./elements/lane_strip.js";
import "./elements/preset_bar.js";
import "./elements/compare_bench.js";
import { placePopovers } from "./lib/popovers.js";
import { nameModifiers } from "./lib/keyboard.js";

placePopovers(document);
nameModifiers(document, navigator.platform);
