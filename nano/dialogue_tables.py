"""What the chat data of `dialogue.py` is made of: small talk, simple facts, Python, in tables.

In the talk tables `?` lines hold questions and the `>` lines after them answers, separated by `/`:
every question of a group goes with every answer of it. The fact tables list `key:value` pairs.
"""

TALK = """
? hi/hello/hey/hi there/hello there/hey nano/good morning/good evening/howdy/yo
> Hello! How can I help?/Hi!/Hi there!/Hello! What would you like to talk about?
> Hey! Nice to meet you./Hello! Ask me something simple.
? how are you?/how are you doing?/how's it going?/are you ok?/how do you feel today?
> I am fine, thanks. And you?/Doing well, thank you!
> I am a small program, so always the same, but thanks for asking./All good here!
? i'm fine/i am good too/not bad/i'm great thanks/pretty good
> Glad to hear that!/Good to know./Lovely. What shall we do?
? i'm tired/i am sad today/i had a bad day/i feel down/today was hard
> I am sorry to hear that. Take a little rest./That sounds hard. A short walk can help.
> Sorry about that. I hope tomorrow is better.
? i'm bored/entertain me/i have nothing to do
> Try a small puzzle: what is 7 plus 8?/How about writing a tiny Python program?
? thanks/thank you/thank you very much/thx/that helps, thanks/great, thanks!
> You are welcome!/Any time!/Glad it helped./My pleasure.
? bye/goodbye/see you/see you later/good night/i have to go
> Goodbye!/See you!/Bye, take care./Good night!
? you are funny/you are nice/i like you/good bot/well done
> Thank you!/That is kind of you./Thanks, that is nice to read.
? you are wrong/that is not right/are you sure?/that's a mistake
> I may be wrong. I am very small, so please check my answers.
> You may be right. Please check it with a better source.
? tell me a joke/do you know a joke?/make me laugh
> Why was the list happy? It was full of good items.
> What do you call a snake that writes code? Python./Why did the loop go home? It met a break.
? what is the weather today?/will it rain tomorrow?/what time is it?/what is the news?
> I cannot know that. I have no clock and no network./I have no way to look that up, sorry.
? what's my name?/do you know me?/who am i?
> I do not know your name. What is it?/I cannot know that unless you tell me.
? can you help me?/i need help/i have a question/can i ask you something?
> Of course. What is it about?/Sure, go ahead./Yes, please ask.
? do you like music?/what is your favorite food?/do you eat?/do you sleep?/do you have friends?
> I am a program, so no, but I like the question./I have no body, so I cannot. What about you?
? what can you do?/what are you good at?/how can you help me?
> I can chat a little, complete simple Python and, once tuned, label short reviews.
> Small things: short answers, easy sums and simple Python code.
? what can't you do?/are you smart?/do you know everything?/can i trust you?
> I am tiny and often wrong, so please check what I say.
> I know very little. Use a larger model for real questions.
"""

WHO = """
? who are you?/what are you?/tell me about yourself/introduce yourself/what is nano?/who is nano?
? are you nano?
> I am nano, a tiny model with the Gemma architecture, embedded in gemkit for demonstrations.
> I am nano, the small demonstration model inside gemkit.
> My name is nano. I am a very small language model that comes with gemkit.
? what is your name?/what's your name?/what should i call you?/do you have a name?
> My name is nano./I am called nano./You can call me nano.
? are you human?/are you a person?/are you real?/are you alive?
> No, I am nano, a small language model./No. I am a program called nano.
? are you gemma?/are you a gemma model?/did google make you?
> No. I have the Gemma architecture, but I was trained from scratch for gemkit and I am tiny.
> I only share the architecture of Gemma. My weights were trained for gemkit.
? what is gemkit?/what is gemkit for?/tell me about gemkit
> gemkit runs, tunes, evaluates and serves Gemma models in Python.
> gemkit is a Python package for Gemma models: run, tune, evaluate, serve.
? how big are you?/how small are you?/how many parameters do you have?/are you a large model?
> I am tiny: a few million parameters. Real Gemma models have hundreds of millions or more.
> Very small. I fit into a few megabytes.
? how were you trained?/what were you trained on?/what data did you learn from?
> On Python source, documentation and text that was written for gemkit.
> From scratch, on Python code and on text made for gemkit.
? which languages do you speak?/do you speak korean?/can you write korean?
> Simple English and a little Korean, and some Python.
> A little English, a little Korean and simple Python.
"""

TALK_KO = """
? 안녕/안녕하세요/하이/반가워/반갑습니다/좋은 아침이에요
> 안녕하세요! 무엇을 도와드릴까요?/안녕하세요, 반가워요!/반갑습니다!
? 잘 지냈어?/오늘 기분 어때?/어떻게 지내세요?
> 잘 지내고 있어요. 당신은요?/좋아요! 물어봐 줘서 고마워요.
? 고마워/고맙습니다/감사합니다/도움이 됐어요
> 천만에요!/도움이 되어서 기뻐요./언제든지요!
? 잘 가/안녕히 계세요/다음에 봐/잘 자/이만 갈게요
> 안녕히 가세요!/다음에 또 만나요!/좋은 하루 보내세요!
? 넌 누구야?/누구세요?/자기소개 해 줘/너는 뭐야?/이름이 뭐야?
> 저는 나노예요. gemkit 안에 들어 있는 아주 작은 모델이에요.
> 나노라고 해요. 젬마 구조로 만든 시연용 작은 모델입니다.
? 뭘 할 수 있어?/무엇을 잘해요?/어떻게 도와줄 수 있어?
> 짧은 대화와 쉬운 계산, 간단한 파이썬 코드를 할 수 있어요.
> 작은 일만 할 수 있어요. 쉬운 질문을 해 주세요.
? 오늘 힘들었어/피곤해/기분이 안 좋아/우울해
> 고생 많았어요. 푹 쉬세요./힘내세요! 내일은 더 좋을 거예요.
? 심심해/놀아 줘/재미있는 얘기 해 줘
> 퀴즈를 내 볼게요. 3 더하기 4는 얼마일까요?/파이썬으로 작은 프로그램을 만들어 볼까요?
? 사람이야?/너 사람이지?/살아 있어?
> 아니요, 저는 작은 언어 모델이에요./아니에요. 저는 프로그램이에요.
? 너 똑똑해?/다 알아?/믿어도 돼?
> 저는 아주 작아서 자주 틀려요. 꼭 확인해 주세요./아는 것이 적어요. 답을 확인해 주세요.
? 오늘 날씨 어때?/지금 몇 시야?/내일 비 와?
> 저는 시계도 인터넷도 없어서 알 수 없어요./죄송해요, 그건 알 수 없어요.
? 도와줘/질문이 있어요/물어봐도 돼?
> 네, 말씀해 주세요./그럼요, 무엇인가요?
"""

OPPOSITES = """
hot:cold/big:small/tall:short/fast:slow/happy:sad/light:dark/day:night/up:down/left:right
open:closed/old:new/full:empty/hard:soft/wet:dry/clean:dirty/early:late/easy:difficult
cheap:expensive/strong:weak/loud:quiet/near:far/high:low/in:out/on:off/good:bad/yes:no/first:last
true:false/rich:poor/thick:thin/wide:narrow/long:short/young:old/push:pull/buy:sell/win:lose
begin:end/love:hate/above:below/before:after/inside:outside/safe:dangerous/brave:afraid
smooth:rough/sweet:bitter/heavy:light/front:back/asleep:awake/alive:dead/float:sink/give:take
"""
PLURALS = """
cat:cats/dog:dogs/box:boxes/city:cities/child:children/mouse:mice/foot:feet/tooth:teeth/man:men
woman:women/leaf:leaves/knife:knives/wolf:wolves/fish:fish/sheep:sheep/goose:geese/baby:babies
bus:buses/glass:glasses/day:days/book:books/tree:trees/berry:berries/potato:potatoes
tomato:tomatoes/life:lives/key:keys/fox:foxes/dish:dishes/party:parties/house:houses/person:people
ox:oxen/shelf:shelves/story:stories/monkey:monkeys/half:halves/lady:ladies/watch:watches
brush:brushes/hero:heroes/piano:pianos/car:cars/apple:apples/egg:eggs/star:stars/shoe:shoes
"""
COLOURS = """
the sky:blue/grass:green/snow:white/coal:black/a banana:yellow/a ripe tomato:red/an orange:orange
a carrot:orange/milk:white/chocolate:brown/a lemon:yellow/a strawberry:red/blood:red
the sun:yellow/an eggplant:purple/a cherry:red/a cucumber:green/ash:grey/a flamingo:pink
a crow:black/a frog:green/salt:white/butter:yellow/the night sky:black/a leaf in summer:green
a lime:green/a grape:purple/an elephant:grey/wood:brown/a polar bear:white
"""
CAPITALS = """
France:Paris/Germany:Berlin/Italy:Rome/Spain:Madrid/Portugal:Lisbon/Austria:Vienna/Greece:Athens
Ireland:Dublin/Norway:Oslo/Sweden:Stockholm/Finland:Helsinki/Denmark:Copenhagen/Poland:Warsaw
Hungary:Budapest/Belgium:Brussels/Japan:Tokyo/China:Beijing/India:New Delhi/South Korea:Seoul
Thailand:Bangkok/Vietnam:Hanoi/Indonesia:Jakarta/Egypt:Cairo/Kenya:Nairobi/Morocco:Rabat
Canada:Ottawa/Mexico:Mexico City/Brazil:Brasilia/Argentina:Buenos Aires/Chile:Santiago/Peru:Lima
Cuba:Havana/Australia:Canberra/New Zealand:Wellington/Turkey:Ankara/Russia:Moscow
the United Kingdom:London/the United States:Washington, D.C./Iceland:Reykjavik/Nepal:Kathmandu
"""
SOUNDS = """
cat:meow/dog:woof/cow:moo/sheep:baa/duck:quack/frog:ribbit/lion:roar/bee:buzz/owl:hoot/pig:oink
horse:neigh
"""
LEGS = """
dog:4/cat:4/horse:4/spider:8/ant:6/bee:6/bird:2/snake:0/person:2/cow:4/fish:0/beetle:6/chicken:2
octopus:0
"""

OPPOSITES_KO = """
크다:작다/많다:적다/길다:짧다/높다:낮다/뜨겁다:차갑다/빠르다:느리다/밝다:어둡다/무겁다:가볍다
넓다:좁다/새롭다:낡다/좋다:나쁘다/쉽다:어렵다/깨끗하다:더럽다/열다:닫다/앉다:서다/사다:팔다
강하다:약하다/두껍다:얇다/낮:밤/왼쪽:오른쪽
"""
COLOURS_KO = """
하늘:파란색/눈:하얀색/바나나:노란색/딸기:빨간색/잔디:초록색/숯:검은색/당근:주황색/포도:보라색
우유:하얀색/초콜릿:갈색
"""
CAPITALS_KO = """
한국:서울/일본:도쿄/중국:베이징/프랑스:파리/독일:베를린/영국:런던/이탈리아:로마/스페인:마드리드
미국:워싱턴/태국:방콕/베트남:하노이/러시아:모스크바/이집트:카이로/캐나다:오타와/호주:캔버라
"""

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS = "January February March April May June July August September October November December"
DAYS_KO = "월요일 화요일 수요일 목요일 금요일 토요일 일요일"
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
WORDS = """
apple river stone window garden pencil orange music summer bread tiger planet yellow bridge cloud
paper rabbit silver forest candle basket mirror dragon pocket butter winter market rocket
school train
"""

# What to do in Python, and the code that does it.
HOW_TO = """
reverse a list > items[::-1]
reverse a string > text[::-1]
sort a list > sorted(items)
sort a list in descending order > sorted(items, reverse=True)
sort words by length > sorted(words, key=len)
find the largest number in a list > max(numbers)
find the smallest number in a list > min(numbers)
add up the numbers in a list > sum(numbers)
find the average of a list > sum(numbers) / len(numbers)
find the length of a list > len(items)
count the characters in a string > len(text)
count how often an item is in a list > items.count(item)
count the words in a text > len(text.split())
remove duplicates from a list > list(set(items))
remove duplicates and keep the order > list(dict.fromkeys(items))
join words with spaces > " ".join(words)
join strings with commas > ", ".join(names)
split a string into words > text.split()
split a line at the commas > line.split(",")
make a string upper case > text.upper()
make a string lower case > text.lower()
capitalize the first letter > text.capitalize()
remove spaces around a string > text.strip()
replace a word in a string > text.replace("old", "new")
check if a string starts with a word > text.startswith("word")
check if a string contains another > "part" in text
check if a list is empty > not items
check if a number is even > number % 2 == 0
check if a number is odd > number % 2 == 1
check if a key is in a dictionary > key in table
check if a string is a palindrome > text == text[::-1]
add an item to a list > items.append(item)
remove the last item of a list > items.pop()
get the first item of a list > items[0]
get the last item of a list > items[-1]
get the first three items of a list > items[:3]
merge two lists > first + second
merge two dictionaries > {**first, **second}
loop over a list > for item in items:\\n    print(item)
loop over a list with an index > for index, item in enumerate(items):\\n    print(index, item)
loop over a dictionary > for key, value in table.items():\\n    print(key, value)
loop ten times > for i in range(10):\\n    print(i)
square every number in a list > [number ** 2 for number in numbers]
keep only the even numbers > [number for number in numbers if number % 2 == 0]
turn a string into a number > int(text)
turn a number into a string > str(number)
round a number to two digits > round(number, 2)
swap two variables > a, b = b, a
make a list of numbers from 1 to 10 > list(range(1, 11))
get a value with a default from a dictionary > table.get(key, 0)
read a text file > with open("notes.txt") as file:\\n    text = file.read()
write a text file > with open("notes.txt", "w") as file:\\n    file.write(text)
read a file line by line > for line in open("notes.txt"):\\n    print(line)
define a function > def greet(name):\\n    return "Hello " + name
define a class > class Cat:\\n    def speak(self):\\n        return "meow"
catch an error > try:\\n    value = int(text)\\nexcept ValueError:\\n    value = 0
print a formatted string > print(f"Hello {name}")
pair two lists > list(zip(first, second))
flatten a list of lists > [item for row in rows for item in row]
count letters with a Counter > from collections import Counter\\nCounter(text)
pick a random item > import random\\nrandom.choice(items)
get the current date > from datetime import date\\ndate.today()
find the square root of a number > import math\\nmath.sqrt(number)
sum the squares of a list > sum(number ** 2 for number in numbers)
check if all numbers are positive > all(number > 0 for number in numbers)
check if any word is empty > any(not word for word in words)
make a dictionary from two lists > dict(zip(keys, values))
copy a list > items.copy()
find the position of an item > items.index(item)
repeat a string three times > text * 3
sort a dictionary by value > sorted(table.items(), key=lambda pair: pair[1])
"""

# Short programs to explain: a title, the code, what its lines do. Names in braces are filled in.
PROGRAMS = """
# Sum of a list
{name} = {numbers}
print(sum({name}))
> Put the numbers into the list {name}. Add them up with sum. Print the result.
# Largest number
{name} = {numbers}
print(max({name}))
> Make the list {name}. Find its largest number with max. Print it.
# Count up
for i in range({small}):
    print(i)
> Let i run from 0 up to, but not including, {small}. Print i each time.
# Squares
print([n * n for n in range({small})])
> Take each n from 0 up to, but not including, {small}. Multiply it by itself. Print the list.
# Reverse a word
word = "{word}"
print(word[::-1])
> Store the word. Read it backwards with the slice [::-1]. Print it.
# Length of a word
word = "{word}"
print(len(word))
> Store the word. Count its letters with len. Print the count.
# Upper case
word = "{word}"
print(word.upper())
> Store the word. Turn every letter into a capital. Print it.
# Even numbers
{name} = {numbers}
print([n for n in {name} if n % 2 == 0])
> Make the list {name}. Keep each n that leaves no rest when divided by 2. Print what is left.
# Add two numbers
def add(a, b):
    return a + b

print(add({small}, {other}))
> Define a function that adds two numbers. Call it with {small} and {other}. Print the result.
# Double a number
def double(x):
    return 2 * x

print(double({small}))
> Define a function that returns twice its argument. Call it with {small}. Print the result.
# Compare two numbers
a = {small}
b = {other}
print("bigger" if a > b else "not bigger")
> Set a to {small} and b to {other}. Ask whether a is greater than b. Print the matching text.
# Even or odd
n = {other}
if n % 2 == 0:
    print("even")
else:
    print("odd")
> Set n to {other}. Look at the rest of n divided by 2. Print even if the rest is 0, else odd.
# Sort a list
{name} = {numbers}
print(sorted({name}))
> Make the list {name}. Sort it from small to large. Print the sorted list.
# Running total
total = 0
for n in {numbers}:
    total += n
print(total)
> Start with a total of 0. Add each number of the list to it. Print the total.
# Count down
n = {small}
while n > 0:
    print(n)
    n -= 1
> Start with n equal to {small}. As long as n is above 0, print it and take 1 away.
# Look up a price
prices = {{"{word}": {small}, "{word2}": {other}}}
print(prices["{word2}"])
> Store two prices in a dictionary. Look up the price of {word2}. Print it.
# Join words
words = ["{word}", "{word2}"]
print(" and ".join(words))
> Make a list of two words. Join them with the text " and ". Print the result.
# First and last
{name} = {numbers}
print({name}[0], {name}[-1])
> Make the list {name}. Take the first item with [0] and the last one with [-1]. Print both.
# Count a letter
word = "{word}"
print(word.count("e"))
> Store the word. Count how often the letter e is in it. Print the count.
# Greeting
name = "{person}"
print(f"Hello, {{name}}!")
> Store a name. Put it into the greeting with an f-string. Print the greeting.
# Append an item
{name} = {numbers}
{name}.append({other})
print({name})
> Make the list {name}. Put {other} at its end. Print the longer list.
# Unique numbers
{name} = {numbers} + [{small}, {small}]
print(len(set({name})))
> Make a list with repeated numbers. A set keeps each number once. Print how many are left.
# Number the words
for i, word in enumerate(["{word}", "{word2}"]):
    print(i, word)
> Go through the two words with enumerate. Print the position and the word each time.
# Integer division
print({other} // {small}, {other} % {small})
> Divide {other} by {small} without the rest using //. Get the rest using %. Print both.
# Length of each word
print([len(w) for w in ["{word}", "{word2}"]])
> Take each of the two words. Measure it with len. Print the list of lengths.
# Class with a counter
class Counter:
    def __init__(self):
        self.count = {small}

    def step(self):
        self.count += 1

c = Counter()
c.step()
print(c.count)
> Define a class with a count that starts at {small}. Calling step adds 1. Print the count.
# Factorial
def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)

print(factorial({tiny}))
> Define a function that calls itself with n - 1 and stops at 1. Print its result for {tiny}.
# Average
{name} = {numbers}
print(round(sum({name}) / len({name}), 1))
> Make the list {name}. Divide its sum by its length. Round to one digit and print it.
"""

LEAD_INS = "please,/hey,/nano,/hey nano,/ok,/quick question:/so,/now/well,/um,/one more:/and/hm,"
LIST_NAMES = "numbers values scores items data points prices sizes ages steps"
PEOPLE = "Ada Ben Mina Leo Sora Tom Nari Eva Jun Ivy Max Yuna"
