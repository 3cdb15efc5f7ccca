// The basket in the browser.

export function addLine(lines, name, cents) {
  const known = lines.find((line) => line.name === name);
  if (known) {
    known.count += 1;
    return lines;
  }
  return [...lines, { name, cents, count: 1 }];
}

export function total(lines) {
  return lines.reduce((sum, line) => sum + line.cents * line.count, 0);
}

export function formatPrice(cents) {
  return (cents / 100).toFixed(2);
}
