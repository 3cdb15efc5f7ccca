"""Function families on files, dates and small programs (format: `snippet_template`)."""

FILES = """
%% read_lines|load_lines|lines_of_file
def $f(path: str) -> list[str]:
    : Return the lines of a text file.
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file]
--
    lines = []
    with open(path) as file:
        for line in file:
            lines.append(line.rstrip("\\n"))
    return lines
%% read_text|load_text|file_content
def $f(path: str) -> str:
    : Return the content of a text file.
    with open(path, encoding="utf-8") as file:
        return file.read()
--
    return Path(path).read_text(encoding="utf-8")
%% write_text|save_text
def $f(path: str, text: str) -> None:
    : Write the text to a file.
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
--
    Path(path).write_text(text, encoding="utf-8")
%% write_lines|save_lines
def $f(path: str, lines: list[str]) -> None:
    : Write the lines to a file.
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\\n")
--
    with open(path, "w") as file:
        file.write("\\n".join(lines))
%% append_line|add_line
def $f(path: str, line: str) -> None:
    : Append a line to a file.
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\\n")
%% load_json|read_json
def $f(path: str) -> dict[str, Any]:
    : Return the data of a JSON file. | Load a JSON file.
    with open(path, encoding="utf-8") as file:
        return json.load(file)
--
    return json.loads(Path(path).read_text())
%% save_json|write_json|dump_json
def $f(path: str, data: dict[str, Any]) -> None:
    : Write the data to a JSON file.
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
%% count_lines|number_of_lines|line_count
def $f(path: str) -> int:
    : Return the number of lines in a file. | Count the lines of a file.
    $count = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            $count += 1
    return $count
--
    with open(path) as file:
        return sum(1 for _ in file)
%% count_words_in_file|words_in_file
def $f(path: str) -> int:
    : Return the number of words in a file.
    $total = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            $total += len(line.split())
    return $total
%% find_lines|search_file|grep
def $f(path: str, word: str) -> list[str]:
    : Return the lines of a file that contain the word.
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if word in line:
                found.append(line.strip())
    return found
--
    with open(path) as file:
        return [line.strip() for line in file if word in line]
%% read_csv|load_rows|read_rows
def $f(path: str) -> list[dict[str, str]]:
    : Return the rows of a CSV file as dictionaries.
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
--
    rows = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            rows.append(row)
    return rows
%% write_csv|save_rows|write_rows
def $f(path: str, rows: list[list[str]]) -> None:
    : Write the rows to a CSV file.
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        for row in rows:
            writer.writerow(row)
--
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
%% read_numbers|load_numbers
def $f(path: str) -> list[float]:
    : Return the numbers in a file, one on each line.
    numbers = []
    with open(path) as file:
        for line in file:
            line = line.strip()
            if not line:  #~ Skip empty lines.
                continue
            numbers.append(float(line))
    return numbers
%% load_or_default|read_or_empty|try_read
def $f(path: str, default: str = "") -> str:
    : Return the content of a file, or the default if it is missing.
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return default
--
    if not os.path.exists(path):
        return default
    with open(path) as file:
        return file.read()
%% load_settings|read_settings|load_config
def $f(path: str) -> dict[str, str]:
    : Return the settings of a file with lines such as key=value.
    settings = {}
    with open(path) as file:
        for line in file:
            if line.startswith("#") or "=" not in line:
                continue
            key, value = line.strip().split("=", 1)
            settings[key] = value
    return settings
%% list_files|find_files|files_in_folder
def $f(folder: str, suffix: str = ".txt") -> list[Path]:
    : Return the files in the folder with the given suffix.
    return sorted(Path(folder).glob("*" + suffix))
--
    found = []
    for path in Path(folder).iterdir():
        if path.suffix == suffix:
            found.append(path)
    return found
%% folder_size|total_size
def $f(folder: str) -> int:
    : Return the size of all files in the folder in bytes.
    return sum(path.stat().st_size for path in Path(folder).iterdir() if path.is_file())
--
    $total = 0
    for path in Path(folder).iterdir():
        if path.is_file():
            $total += path.stat().st_size
    return $total
%% make_folder|create_folder|ensure_folder
def $f(name: str) -> Path:
    : Create the folder if it does not exist.
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
%% copy_file|copy_text
def $f(source: str, target: str) -> None:
    : Copy the text of one file to another.
    with open(source) as reader, open(target, "w") as writer:
        for line in reader:
            writer.write(line)
%% delete_file|remove_file
def $f(path: str) -> bool:
    : Delete the file and return True if it existed.
    if os.path.exists(path):
        os.remove(path)
        return True
    return False
%% file_extension|*extension ; word
def $f(name: str) -> str:
    : Return the extension of a file name.
    if "." not in name:
        return ""
    return name.split(".")[-1]
%% add_suffix|with_suffix ; word
def $f(name: str, suffix: str = ".txt") -> str:
    : Return the name with the suffix added if it is missing.
    if name.endswith(suffix):
        return name
    return name + suffix
%% to_json|encode ; stock
def $f(data: dict[str, int]) -> str:
    : Return the data as a JSON string.
    return json.dumps(data, sort_keys=True)
%% parse_arguments|parse_args|read_arguments
def $f() -> argparse.Namespace:
    : Read the command line arguments.
    parser = argparse.ArgumentParser()
    parser.add_argument("path", help="file to read")
    parser.add_argument("--$n", type=int, default=$int1)
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()
%% build_parser|make_parser|create_parser
def $f() -> argparse.ArgumentParser:
    : Return the parser of the command line.
    parser = argparse.ArgumentParser(description="Process a file.")
    parser.add_argument("input", help="input file")
    parser.add_argument("--output", default="out.txt", help="output file")
    parser.add_argument("--count", type=int, default=$int1)
    return parser
%% ask_number|read_number|input_number
def $f(prompt: str) -> int:
    : Ask until the user enters a whole number.
    while True:
        answer = input(prompt)
        try:
            return int(answer)
        except ValueError:
            print("Please enter a number.")
%% ask_yes_no|confirm|ask_user
def $f(question: str) -> bool:
    : Ask a question and return True if the answer is yes.
    answer = input(question + " (y/n) ")
    return answer.strip().lower() == "y"
%% days_between|count_days|*days_between
def $f(start: date, end: date) -> int:
    : Return the number of days between two dates.
    return (end - start).days
--
    difference = end - start
    return difference.days
%% add_days|days_later
def $f(day: date, days: int) -> date:
    : Return the date some days later.
    return day + timedelta(days=days)
%% is_weekend|falls_on_weekend
def $f(day: date) -> bool:
    : Return True if the day is a Saturday or Sunday.
    return day.weekday() >= 5
%% parse_date|read_date
def $f(text: str) -> date:
    : Return the date for a text such as 2024-01-31.
    year, month, day = text.split("-")
    return date(int(year), int(month), int(day))
--
    return datetime.strptime(text, "%Y-%m-%d").date()
%% age_in_years|*age
def $f(born: date, today: date) -> int:
    : Return the age in whole years.
    age = today.year - born.year
    if (today.month, today.day) < (born.month, born.day):
        age -= 1
    return age
%% timed|timer|measure_time
@contextmanager
def $f(label: str) -> Iterator[None]:
    : Print how long a block of code takes.
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        print(f"{label}: {seconds:.3f} s")
%% log_calls|trace|show_calls
def $f(func: Callable) -> Callable:
    : Print the name of the function at each call.
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        print(f"calling {func.__name__}")
        return func(*args, **kwargs)

    return wrapper
%% memoize|cached|remember
def $f(func: Callable) -> Callable:
    : Keep the results of the function.
    results = {}

    def wrapper(*args):
        if args not in results:
            results[args] = func(*args)
        return results[args]

    return wrapper
%% retry|try_again|call_with_retry
def $f(func: Callable, attempts: int = 3) -> Any:
    : Call the function until it works.
    for attempt in range(attempts):
        try:
            return func()
        except OSError:
            if attempt == attempts - 1:
                raise
%% random_password|make_password|generate_password
def $f(length: int = $int1) -> str:
    : Return a random password of the given length.
    letters = string.ascii_letters + string.digits
    return "".join(random.choice(letters) for _ in range(length))
%% pick_random|choose_random|random_item
def $f($items: list) -> Any:
    : Return a random $item.
    return random.choice($items)
--
    $i = random.randrange(len($items))
    return $items[$i]
%% shuffled|shuffle_copy
def $f($items: list) -> list:
    : Return a shuffled copy of the $items.
    copy = list($items)
    random.shuffle(copy)
    return copy
%% coin_flips|flip_coins|toss_coins
def $f(count: int) -> int:
    : Return how many of the coin flips show heads.
    heads = 0
    for _ in range(count):
        if random.random() < 0.5:
            heads += 1
    return heads
"""
