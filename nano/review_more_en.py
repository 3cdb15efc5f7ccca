"""English sentences, contrasts and facts for stage 2; the format of `review_phrases.py`.

`{…}` is filled by `review_more.py`; `@ -` opens a bank without subjects.
"""

# Whole sentences.
SENTENCES = """
@ -
+ our driver was early and polite/it arrived hotter than I expected
+ packed so well that nothing spilled/they remembered every single request/they threw in free {food}
+ a handwritten thank-you note came with the order/best delivery I have had all year
+ I have ordered {several} times this month already/still crispy after the ride home
+ leftovers were just as good the next day
+ they called to say they were running late and added a dessert
+ they fixed the mistake within minutes/the refund came before I even asked
+ never had a wrong order from this place/portion was big enough for two dinners
+ we took half of it home/I could not finish it, and I tried/I licked the plate, not sorry
+ not a crumb was left/my kids asked when we can go back/my picky eater cleaned the plate
+ even my mother-in-law smiled/my husband is still talking about {food}
+ my wife wants to come back tomorrow/we booked again before leaving/I would drive {long} for this
+ worth the {long} wait/worth every minute in line/we were seated right away
+ water glasses never went empty/they learned our names/our server knew the menu inside out
+ the waiter helped us pick and was right about everything/the chef came out to say hello
+ they brought a candle for my birthday without being asked/they were patient with our toddler
+ the owner gave us a tour of the kitchen/staff treated us like family/service with a real smile
+ you can tell they care/the place is spotless/you could eat off the floor
+ restrooms cleaner than my home/plenty of parking out front/cozy spot, soft music, great crowd
+ perfect for a first date/the view alone is worth the trip/I finally found my spot
+ this is my new favorite/hidden gem, do not tell anyone/I almost do not want to share this place
+ best {food} in town, hands down/best {food} I have had outside of my grandmother's kitchen
+ beats the famous place down the street/I have tried them all and this one wins
+ I do not usually write reviews but this deserves one/I am a chef myself and I was impressed
+ I came in skeptical and left a fan/did not expect much, got blown away/lives up to the hype
+ exceeded every expectation/I get it now, I get the line/pricey but you get what you pay for
+ a steal at that price/cheap, cheerful and seriously tasty/great value for the money
+ I left full and happy/my stomach thanks you/my only complaint is that I do not live closer
+ the only bad thing is they close on Mondays/I dream about {food}/I crave it every week
+ sent three friends there already/everyone at the table was happy/no complaints whatsoever
+ nothing to improve/zero regrets/would not change a thing/could not fault it/never disappoints
+ cannot go wrong here/you will not be sorry/not bad at all, in fact great
+ not cheap, but not a cent wasted/not greasy, not salty, just right
+ I have never had a bad meal here/do not walk, run/go hungry/just go
+ go now before it gets too popular/take my money/shut up and take my money/chef's kiss
+ ten out of ten/11 out of 10 no notes/five stars easily/five stars, would give six/solid five
+ a+ all around/all thumbs up/two thumbs up/we will be regulars/see you next week
+ count me in as a regular/already planning my next visit/definitely coming back
+ coming back with friends/would recommend to anyone/highly recommended
+ recommend it to everybody I know/bravo/keep it up/thank you for a lovely evening
+ you made our anniversary/made my day/comfort in a bowl/tastes like home/real deal/legit
+ so freaking good/slaps/fire/absolute fire/bussin/chef cooked, no cap/obsessed/addicted
+ I am in love/heaven/pure joy/wow just wow/omg so good/yum/yummm/yes yes yes/simply perfect
+ simple food done right/fresh, honest, tasty/you can taste the quality
+ flavors were layered and bright/seasoned like someone meant it/cooked with love
+ portion control who/everything we ordered was a hit/we fought over the last bite
+ {food} was gone in a minute/I ordered a second {food} to go/the {food} sold me
+ try the {food}, thank me later/get the {food}, trust me
+ I was wrong about this place, in the best way/small menu but they nail every dish
+ a bit noisy but who cares with food like this/slow kitchen, but wow, worth it
+ looks like a dive, eats like a dream/parking is a pain and I would still go twice a week
- took {long} and arrived cold/the driver left it in the rain/half of it had leaked into the bag
- they forgot the {food} and never answered the phone/missing items, again
- wrong order for the third time/nobody read my notes/asked for no onions, got extra onions
- the refund never came/still waiting for my refund/they hung up on me
- customer service told me to read the terms/paid for delivery and got a soggy mess
- the fries had given up/I ended up making toast/we threw most of it away
- it went straight in the bin/the dog would not eat it/two bites and I was done
- I pushed it around the plate/we left hungry/stopped for a burger on the way home
- my kids refused to eat it/even my husband, who eats anything, left half
- my friend apologized for picking this place/ruined my birthday/what a way to spend an anniversary
- waited {long} for a table we had booked/they lost our reservation
- stood at the door for {long} while staff chatted/nobody greeted us/nobody came back to check on us
- had to ask {several} times for water/our server rolled her eyes
- the waiter argued with us about the bill/the manager shrugged
- the owner yelled at the staff in front of us/they rushed us out before dessert
- we felt like a bother/I felt invisible/got the side-eye for asking a question
- never been treated like that/they charged us for bread/a fee for everything
- hidden charges on the bill/tip was added without asking/{price} for that, are you kidding
- {price} for three bites/my wallet hurts and I am still hungry/not worth half the price
- not worth the drive/not worth the wait/not worth your time/I want my money back
- I want those {long} of my life back/found a hair in my {food}/there was plastic in the {food}
- a fly in my drink and they laughed/the table was sticky and so was the menu/lipstick on my glass
- the bathroom made me lose my appetite/something crawled across the floor/smelled like a wet mop
- got sick that night/spent the night in the bathroom/food poisoning, thanks
- someone call the health inspector/chicken was pink inside/{food} was raw in the middle
- {food} tasted like the freezer/{food} tasted like it was from a can
- it was microwaved, I heard the beep/tastes like yesterday/no flavor whatsoever
- salt is the only seasoning they know/sugar bomb/a puddle of oil/I have had better at a gas station
- airline food is better/hospital food has more flavor/my school cafeteria did it better
- the frozen aisle beats this/I could do better and I cannot cook/save yourself the trip
- save your money/go anywhere else/do yourself a favor and skip it/skip it/hard pass/avoid/stay away
- run/never again/never ordering again/once was enough/one and done/I will not be back
- would not return if it was free/I would not send my enemy here/cannot recommend
- cannot say anything nice/nothing about it was good/nothing special at all
- nothing worth remembering/not good, not even close/not fresh, not hot, not friendly
- not what the photos promised/the pictures lie/the reviews must be fake
- I do not understand the good reviews/who is writing these five-star reviews/all hype
- hype and no taste/style over substance/pretty plates, empty flavor/instagram trap/tourist trap
- went downhill fast/used to be my favorite, not anymore/what happened to this place
- new owners, new low/they changed the recipe and lost a customer/I expected more
- expected so much better/underwhelming/disappointed is an understatement/meh/mid/so mid
- overhyped and overpriced/bland city/ew/yuck/gross/nope/big nope/no thanks/just no/trash/garbage
- hot garbage/what a joke/total rip-off/scam/daylight robbery/zero stars if I could
- one star is generous/1 out of 10 would not eat again/two out of ten/one star, for the parking
- a star for the napkins/the water was nice/at least the water was cold/the best part was leaving
- nice chairs, shame about the food/congratulations, you ruined rice/how do you mess up {food}
- only if you are starving/if you like waiting, this is your place
- great place if you enjoy being ignored/a masterclass in bad service/thanks for helping my diet
- cute place but the food is sad/friendly staff, sadly they cannot cook/cheap, and it tastes like it
- the music was good, the rest was not/good location, wasted on this kitchen
- I wanted to like it, I really did/I tried to like it/gave it a second chance and regretted it
- it was fine until the bill came/started well, ended badly
"""

# Clauses that give way to what comes next.
CONCEDE = """
@ -
+ the food was good/the food was decent/the place looks great/the room is pretty/the view is nice
+ the staff were nice/our waiter was sweet/the prices are low/portions are big/the location is great
+ it came fast/delivery was quick/the first visit was fine/it used to be great
+ the photos look amazing/everyone raves about it/the drinks were fine/the {food} was okay
+ parking was easy/the menu is huge/I loved it years ago/the music was lovely
- it is not cheap/it is expensive/we waited {long}/the line was long/parking is awful
- the place is tiny/it was loud/the room looks dated/it looks like nothing from outside
- delivery was a bit late/the service was slow/the waiter seemed tired
- portions are on the small side/the menu is short/the chairs are uncomfortable/it is hard to find
- the {food} was just okay/they got one order wrong/some reviews were harsh/it was packed
- it was raining and we had to wait outside/I had low expectations
"""

# What decides after a `but`.
DECIDE = """
@ -
+ it is so worth it/I would go again tomorrow/the food makes up for everything/the taste wins
+ we loved it anyway/I forgave everything after the first bite/we left happy/I will be back for sure
+ it was the best meal of our trip/they made it right/I still recommend it/the {food} was incredible
+ every bite was great/you should go/I cannot stop thinking about it/I am a fan
- the food was terrible/I would not go back/it just was not good/the service ruined it
- it is not worth the money/it is not worth the wait/the food let it down/I cannot recommend it
- we left disappointed/that is all it has going for it/I got sick afterwards/the {food} was awful
- it was dirty/they were so rude/never again/it has gone downhill
- none of that helps if the food is bad/I was still hungry/it was cold/the hype is undeserved
"""

# Facts that tell no opinion.
NEUTRAL = """
@ -
= we went on a Saturday night/I went for lunch/I ordered the {food}/we had the {food} and the {food}
= we were a party of six/it was our first time here/this was my second visit/we sat by the window
= I live around the corner/I was in town for work/a friend told me about it/saw it on Instagram
= we had a reservation for seven/no reservation/we ordered through the app/it was takeout
= we shared a few plates/it is right by the station/it was my birthday/we came with two kids
= they are closed on Mondays/it opened last month/my husband had the {food}/I got the {food} to go
= we came after a movie/the bill was {price}
"""

# Adjectives to be negated.
NEGATED = """
@ the food/the {food}/everything/what we ate/my {food}
+ good/tasty/fresh/special/hot/great/worth it/crispy/cooked properly
- bad/salty/greasy/dry/bland/overcooked/boring/heavy/disappointing/too sweet
@ the service/our server/the staff/the owner
+ friendly/helpful/attentive/fast/welcoming/polite
- rude/slow/pushy/unfriendly/careless/annoyed
@ the place/the room/the bathroom/the table
+ clean/cozy/comfortable/spacious/inviting
- dirty/noisy/cramped/sticky/uncomfortable
@ the price/the bill
+ fair/reasonable/cheap
- high/outrageous/unfair
"""

# What the braces stand for, besides dishes.
SLOTS = """
@ long
= 40 minutes/an hour/over an hour/two hours/90 minutes/an hour and a half/nearly an hour/50 minutes
@ several
= three/four/five/ten/half a dozen/3/4/5
@ price
= $20/$30/$45/$18/$60/25 dollars/forty bucks/€25/£30/20 bucks
"""
