// Draws what `dfmoa inspect` found, with drawing.js. When it is done, body[data-state] is "done";
// else it tells the error.

const data = JSON.parse(document.getElementById('data').textContent);
const page = document.getElementById('page');

/// A section of the page: title, sentence and what `draw` puts into it; `missing` where there is
/// nothing to draw.
function section(id, title, note, isThere, missing, draw) {
  const host = make('div', {});
  page.append(make('section', {id}, make('h2', {}, title),
                   make('p', {class: 'note'}, isThere ? note : missing), host));
  if (isThere) draw(host);
}

const everyText = (count, what) => count > 1 ? ` Every ${count}th ${what} is drawn.` : '';

function drawLoss() {
  const colours = {'train/ce': 'var(--e0)', 'eval/loss': 'var(--e1)'};
  const series = data.loss.map(one => ({...one, colour: colours[one.name],
                                        hasDots: one.points.length < 25}));
  section('loss', 'Loss over steps',
    'Cross-entropy per token: of every training step, and of held-out data where the run has some.'
      + everyText(data.thinned.loss, 'step'), series.length > 0,
    'This is a checkpoint without metrics.jsonl beside it.', host => {
      curves(host, {series, unit: 'nats per token', label: 'loss over steps'});
      keys(host, series.map(one => [one.name, one.colour]));
    });
}

function drawRanks() {
  const {steps, rows} = data.ranks;
  const most = Math.max(1, ...rows.flatMap(row => row.active.map(value => value || 0)));
  const isDense = rows.length > 90;
  const sites = [...new Set(rows.map(row => row.name.split('/')[1]))];
  section('ranks', 'Rank over time',
    'Open directions of every adapted linear (layer/site), all experts together, at each save.' +
      (isDense ? ` From the top a layer has ${sites.join(', ')}.` : '') +
      everyText(data.thinned.ranks, 'save'), rows.length > 0,
    'No linear has experts.', host => {
      grid(host, {
        rows: rows.map(row => row.name), columns: steps.map(String),
        rowHeight: isDense ? 8 : 18, widest: 90, below: 'step', label: 'rank over time',
        rowLabel: r => !isDense ? rows[r].name
          : r && layerOf(rows[r - 1].name) === layerOf(rows[r].name) ? ''
          : `layer ${layerOf(rows[r].name)}`,
        at: (r, c) => {
          const [active, spectral] = [rows[r].active[c], rows[r].spectral[c]];
          if (active === null) return null;
          return {colour: mix('var(--fill)', active / most), text: number(active),
                  share: active / most,
                  hover: `layer ${rows[r].name.replace('/', ', ')}, step ${steps[c]}: ` +
                    `${number(active)} open directions, spectral rank ${number(spectral)}`};
        }});
      ramp(host, '0', number(most), 'open directions');
    });
}

/// Gates of many rows of experts, one colour scale from 0 to the largest.
function gateGrid(host, rows, below, label) {
  const experts = Math.max(...rows.map(row => row.load.length));
  const labels = rows[0].labels;
  const most = Math.max(1e-9, ...rows.flatMap(row => row.load));
  grid(host, {
    rows: rows.map(row => row.name), below, label,
    columns: Array.from({length: experts}, (_, e) => labels ? labels[e] : String(e)),
    at: (r, e) => {
      const gate = rows[r].load[e];
      if (gate === undefined) return null;
      return {colour: mix('var(--fill)', gate / most), text: brief(gate),
              share: gate / most,
              hover: `${rows[r].name}, ${labels ? labels[e] : `expert ${e}`}: ${number(gate)}` +
                (rows[r].hover || '')};
    }});
  ramp(host, '0', number(most), 'mean gate');
}

function drawLoad() {
  const routers = (data.checkpoint.routers || []).filter(router => !router.of_heads);
  section('load', 'Load of the experts',
    `Mean gate in the last step before the checkpoint (step ${data.checkpoint.step}), by router.`,
    routers.length > 0, 'No router gates experts.', host => gateGrid(host, routers.map(router => ({
      name: short(router.name), load: router.load, labels: router.labels,
      hover: `\nload_cv ${number(router.load_cv)}, entropy ${number(router.entropy)} nats, ` +
        `dead: ${router.dead.join(', ') || 'none'}`})), 'expert', 'load of the experts'));
}

function drawTasks() {
  const use = data.use;
  const routers = use ? use.routers.filter(router => !router.of_heads) : [];
  section('tasks', 'Load by task',
    use ? `Mean gate at the tokens that bear loss, in ${use.files.join(', ')}. Mutual ` +
      `information of expert and task: ${number(use.mutual_information)} nats.` : '',
    routers.length > 0,
    use ? 'No router gates experts.' : 'Shown with --data FILE.', host => {
      const choice = make('select', {'aria-label': 'router'},
        make('option', {value: ''}, 'mean over the routers'),
        ...routers.map((router, i) => make('option', {value: i}, `router ${short(router.name)}`)));
      const drawn = make('div', {});
      const draw = () => {
        const router = choice.value === '' ? use : routers[choice.value];
        drawn.replaceChildren();
        gateGrid(drawn, Object.entries(router.load_of_task).map(([name, load]) => ({
          name, load, labels: routers[0].labels,
          hover: `\ncross-entropy ${number(use.tasks[name].ce)} nats per token of ` +
            `${number(use.tasks[name].tokens)}`})), 'expert', 'load by task');
        drawn.append(make('p', {class: 'note'}, router === use ? '' :
          `Mutual information ${number(router.mutual_information)} nats, load_cv ` +
          `${number(router.load_cv)}, dead: ${router.dead.join(', ') || 'none'}`));
      };
      choice.addEventListener('change', draw);
      host.append(choice, drawn);
      draw();
    });
}

function drawHeads() {
  const routers = (data.checkpoint.routers || []).filter(router => router.of_heads);
  section('heads', 'Gates of the attention heads',
    'Mean gate of every head in the last step; a pretrained head starts at 1.',
    routers.length > 0, 'No router gates attention heads.', host => {
      const far = Math.max(0.01, ...routers.flatMap(
        router => router.mean_gate.map(gate => Math.abs(gate - 1))));
      const heads = Math.max(...routers.map(router => router.mean_gate.length));
      grid(host, {
        rows: routers.map(router => short(router.name)), below: 'head', label: 'gates of heads',
        columns: Array.from({length: heads}, (_, h) => String(h)),
        at: (r, h) => {
          const gate = routers[r].mean_gate[h];
          return gate === undefined ? null : {
            colour: mix(gate < 1 ? 'var(--cool)' : 'var(--warm)', Math.abs(gate - 1) / far),
            text: brief(gate), share: Math.abs(gate - 1) / far,
            hover: `${short(routers[r].name)}, head ${h}: gate ${number(gate)}`};
        }});
      const lowest = Math.min(1, far);  // no gate is below 0
      ramp(host, number(1 - lowest), number(1 + far), 'mean gate; in the middle 1',
           [mix('var(--cool)', lowest / far), 'var(--empty)', 'var(--warm)']);
    });
}

function drawDimensions() {
  const masks = data.checkpoint.dimensions || [];
  const names = [...new Set(masks.map(mask => mask.name.split('/').pop()))];
  const layers = [...new Set(masks.map(mask => layerOf(short(mask.name))))];
  section('dimensions', 'Dimensions of the attention heads',
    'Share of the gated dimensions that are open, by layer: qk of queries and keys, v of values.',
    masks.length > 0, 'No dimension is gated.', host => {
      grid(host, {
        rows: layers.map(layer => `layer ${layer}`), columns: names, widest: 180, below: 'mask',
        label: 'open dimensions',
        at: (r, c) => {
          const mask = masks.find(one => short(one.name) === `${layers[r]}/dfa/${names[c]}`);
          return mask ? {colour: mix('var(--fill)', mask.active / mask.total),
            text: percent(mask.active, mask.total), share: mask.active / mask.total,
            hover: `layer ${layers[r]}, ${names[c]}: ${mask.active} of ${mask.total} open, ` +
              `expected ${number(mask.expected)}`} : null;
        }});
      ramp(host, '0 %', '100 %', 'of the dimensions are open');
    });
}

function drawEntropyWeights() {
  const all = data.entropy_weights;
  const last = Math.max(1, ...all.map(one => layerOf(one.name)));
  const isFew = all.length <= 8;
  const series = all.map((one, i) => ({...one, colour: isFew ? expertColour(i)
    : `color-mix(in oklab, var(--e1) ${100 * layerOf(one.name) / last}%, var(--e0))`}));
  section('entropy_weights', 'Entropy weight over steps',
    'Weight of every router\'s entropy term, on a logarithmic scale.' +
      everyText(data.thinned.entropy_weights, 'step'), series.length > 0,
    'No router, or a checkpoint without metrics.jsonl beside it.', host => {
      curves(host, {series, unit: 'weight (no unit)', isLog: true,
                    label: 'entropy weight over steps'});
      if (isFew) keys(host, series.map(one => [one.name, one.colour]));
      else ramp(host, 'layer 0', `layer ${last}`, '', ['var(--e0)', 'var(--e1)']);
    });
}

/// One text, every token on the colour of its strongest gate.
function tokenText(text, router, names) {
  const line = make('div', {class: 'text'});
  text.pieces.forEach((piece, t) => {
    const gates = router ? text.gates[router][t] : text.head_gates[t];
    const best = gates.indexOf(Math.max(...gates));
    const share = gates[best] / (gates.reduce((sum, gate) => sum + gate, 0) || 1);
    let hover = `token ${t}, id ${text.tokens[t]}\n` +
      gates.map((gate, e) => `${names(e)}: ${number(gate)}`).join('\n');
    if (router && text.head_gates) hover += `\nheads: ${text.head_gates[t].map(brief).join(' ')}`;
    line.append(make('span', {class: 'token', title: hover, 'data-best': best,
      style: `background: color-mix(in srgb, ${expertColour(best)} ` +
        `${Math.round(12 + 58 * share)}%, transparent)`}, piece));
  });
  return line;
}

function drawTokens() {
  const tokens = data.tokens;
  section('tokens', 'Gates of a text', tokens ? `${tokens.file}: every token on the colour of ` +
    'its strongest gate, the stronger its share the fuller. Point at one for all of its gates.' :
    '', tokens !== undefined, 'Shown with --tokens FILE.', host => {
      const routers = tokens.routers.length ? tokens.routers : [{name: '', of_heads: true}];
      const choice = make('select', {'aria-label': 'router'}, ...routers.map((router, i) =>
        make('option', {value: i}, router.name === 'mean' ? 'mean over the routers of experts'
          : router.name ? `router ${router.name}` : 'mean over the routers of heads')));
      const drawn = make('div', {});
      const draw = () => {
        const router = routers[choice.value];
        const names = e => router.labels ? router.labels[e]
          : `${router.of_heads ? 'head' : 'expert'} ${e}`;
        drawn.replaceChildren();
        let most = 0;
        for (const text of tokens.texts) {
          const row = router.name ? text.gates[router.name] : text.head_gates;
          most = Math.max(most, row.length ? row[0].length : 0);
          const where = text.where + (text.task ? `, ${text.task}` : '');
          drawn.append(make('p', {class: 'where'}, where), tokenText(text, router.name, names));
        }
        keys(drawn, Array.from({length: most}, (_, e) => [names(e), expertColour(e)]));
      };
      choice.addEventListener('change', draw);
      if (routers.length > 1) host.append(choice);
      host.append(drawn);
      draw();
    });
}

function drawFacts() {
  const told = data.checkpoint;
  const facts = [['step', number(told.step)], ['tokens seen', number(told.tokens_seen)],
    ['checkpoint', `${number(told.bytes)} bytes, ${told.valid ? 'whole' : 'damaged'}`],
    ['hash of the parameters', told.parameters_hash], ['hash of the base model', told.base_hash]];
  page.append(make('header', {}, make('h1', {}, told.path), make('dl', {class: 'facts'},
    ...facts.map(([name, value]) => make('div', {}, make('dt', {}, name),
                                         make('dd', {}, String(value)))))));
}

function draw() {
  page.replaceChildren();
  for (const part of [drawFacts, drawLoss, drawRanks, drawLoad, drawTasks, drawHeads,
                      drawDimensions, drawEntropyWeights, drawTokens]) part();
}

try {
  draw();
  let drawnWidth = window.innerWidth;
  window.addEventListener('resize', () => {
    if (window.innerWidth !== drawnWidth) draw();
    drawnWidth = window.innerWidth;
  });
  document.body.dataset.state = 'done';
} catch (error) {
  document.body.dataset.state = `error: ${error.message}`;
  page.prepend(make('p', {class: 'failure'}, `This page could not be drawn: ${error.message}`));
}
