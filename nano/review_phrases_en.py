"""English phrase banks for `reviews.py`; the same format as `review_phrases.py`.

Predicates are what follows "was"; a subject that ends in `*` is plural.
"""

FOODS = """
@ the ramen/the noodle soup/the broth/the pho/the udon/the chowder/the soup/the stew
@ the kimchi stew/the miso soup
+ rich/comforting/full of flavor/hearty/piping hot/perfectly balanced/deep and savory
+ like a warm hug/packed with toppings/soul warming/seasoned just right/slow cooked to perfection
+ so warming on a cold day
- watery/bland/lukewarm/way too salty/greasy/tasteless/like dishwater/full of msg
- cold by the time it came/one big salt bomb/thin and sad/missing half the toppings/oily
- weirdly sour
@ the pasta/the carbonara/the lasagna/the risotto/the gnocchi/the spaghetti/the mac and cheese
@ the ravioli*
+ al dente/creamy/fresh and homemade/cooked to perfection/silky/cheesy in the best way
+ rich without being heavy/bursting with flavor/the best I have had outside Italy/so comforting
- overcooked/mushy/undercooked/swimming in oil/dry/bland/clumpy/straight out of a jar
- cold in the middle/gluey/like cafeteria food/drowned in sauce
@ the steak/the ribs*/the brisket/the lamb/the pork belly/the beef/the roast/the kebab/the bulgogi
@ the short ribs*
+ tender/juicy/cooked exactly how I asked/melt in your mouth/smoky/fall off the bone
+ perfectly seasoned/buttery soft/charred just right/full of flavor
- tough/chewy/overcooked/dry/burnt/rubbery/raw in the middle/mostly fat/like shoe leather/gristly
- cold and grey/cooked way past medium
@ the fried chicken/the wings*/the fries*/the onion rings*/the tempura/the fish and chips
@ the calamari/the nuggets*
+ crispy/crunchy/golden/perfectly fried/juicy inside/addictive/hot and fresh/light and crisp
+ not greasy at all/well seasoned/impossible to stop eating/crispy even after delivery
- soggy/greasy/dripping with oil/cold/burnt/limp/stale/dry/frozen inside/chewy/fried in old oil
- hard as rocks
@ the pizza/the burger/the cheeseburger/the sandwich/the burrito/the tacos*/the wrap/the hot dog
@ the bagel/the sub
+ huge/juicy/loaded with fresh toppings/so tasty/made with fresh ingredients/cheesy
+ perfectly crisp/stuffed to the brim/messy in the best way/big enough for two/worth every calorie
- soggy/dry/tiny/burnt/falling apart/stale/cold/flavorless/mostly bread/skimpy on the toppings
- undercooked/doughy/like cardboard/smaller than my palm
@ the sushi/the sashimi/the salmon/the fish/the oysters*/the shrimp/the crab/the lobster
@ the poke bowl/the scallops*
+ super fresh/melt in your mouth/beautifully cut/clean tasting/sweet and tender/cooked beautifully
+ top quality/fresh off the boat/well worth the price
- fishy/not fresh/rubbery/overcooked/slimy/still frozen/smelly/warm when it should be cold
- full of bones/gritty/so bad I got sick
@ the coffee/the latte/the cappuccino/the espresso/the cold brew/the matcha latte/the chai
@ the flat white/the tea
+ smooth/strong and aromatic/not bitter at all/perfectly brewed/velvety/the best in town
+ made with care/rich/exactly what I needed/just sweet enough
- burnt/bitter/watery/lukewarm/weak/way too sweet/sour/mostly ice/like dirty water/cold
- mostly foam/undrinkable
@ the croissant/the cake/the cheesecake/the brownie/the donuts*/the scones*/the cookies*
@ the tiramisu/the pie/the bread/the ice cream/the waffles*/the pancakes*/the muffin
@ the cinnamon roll/the tart/the sourdough/the cupcakes*/the dessert
+ buttery/flaky/fluffy/moist/not too sweet/heavenly/fresh out of the oven/to die for/soft and warm
+ light as air/gone in seconds/better than my grandma makes/decadent/perfect with coffee
- stale/dry/rock hard/too sweet/burnt on the bottom/dense/crumbly in a bad way/tasteless
- sugary mush/soggy/days old/clearly from a supermarket
@ the salad/the brunch/the omelette/the avocado toast/the curry/the fried rice/the dumplings*
@ the bibimbap/the hummus
+ fresh/vibrant/colorful and tasty/light but filling/crisp/spiced perfectly/full of veggies
+ generous/fragrant/so good/healthy and delicious/made with love
- wilted/brown at the edges/drenched in dressing/bland/soggy/tiny/boring/cold/oily/dry
- spicy with no flavor/mushy/thrown together
@ the beer/the wine/the cocktails*/the margarita/the sangria/the lemonade/the milkshake
@ the smoothie/the bubble tea
+ ice cold/refreshing/well mixed/strong and tasty/fruity/generous/creative/perfectly chilled
+ reasonably priced
- flat/warm/watered down/overpriced/all ice/sickly sweet/weak/served in a dirty glass
- barely a mouthful
"""

FOOD_ANY = """
@ -
+ delicious/amazing/fantastic/incredible/so good/tasty/yummy/excellent/perfect/out of this world
+ phenomenal/superb/really good/divine/outstanding/absolutely lovely/great/wonderful
+ the best I ever had/on point/top notch/insanely good/better than expected/a must try
+ worth the hype/worth every penny/my favorite/unreal/spot on/finger licking good
- awful/terrible/disgusting/bland/gross/inedible/horrible/disappointing/mediocre/nothing special
- bad/nasty/a letdown/overpriced/not good/not worth it/pretty bad/the worst I ever had/a joke/cold
- flavorless/way overhyped/meh/below average/not fresh at all/a total waste of money/barely edible
- so disappointing/underwhelming/just sad
"""

ASPECTS = """
@ the staff/our waiter/our waitress/the server/the waiters*/everyone who works there/the owner
@ the manager/the barista/the lady at the counter/the chef/the hostess/the bartender/the cashier
+ friendly/super nice/attentive/welcoming/helpful/so kind/polite/patient with our kids
+ knowledgeable/always smiling/lovely/funny and warm/quick to refill our water
+ happy to answer questions/professional/a delight/so sweet/on top of it/great with allergies
+ genuinely caring
- rude/dismissive/slow/unfriendly/inattentive/clueless/cold/impatient/nowhere to be found
- always on the phone/arrogant/annoyed by every question/condescending/unprofessional/grumpy
- useless/unapologetic/busy chatting with each other/mean/rolling their eyes at us
- so disrespectful
@ the service/customer service/the table service
+ excellent/quick/outstanding/great/prompt/warm/flawless/impeccable/friendly/five star/super fast
+ wonderful/top notch
- slow/terrible/awful/horrible/a mess/nonexistent/painfully slow/rude/careless/disorganized
- a disaster/shockingly bad
@ the price/the bill/the lunch special
+ fair/reasonable/very affordable/cheap for the quality/a steal/great value/unbeatable
+ lower than I expected
- too high/outrageous/ridiculous/insane for what you get/a rip off/not justified/way over the top
- a joke/way too much
@ the prices*
+ fair/reasonable/very good/lower than I expected/unbeatable/student friendly/more than reasonable
- ridiculous/insulting/laughable/not worth it/a rip off/going up every month/out of control
- embarrassing
@ the portions*/the servings*/the side dishes*
+ generous/huge/more than enough/just right/great for sharing/big enough for leftovers
+ surprisingly large
- tiny/way too small/laughable/shrinking every time/barely a snack/made for a toddler
- disappointingly small
@ the atmosphere/the ambiance/the vibe/the place/the decor/the interior/the patio/the dining room
+ cozy/charming/relaxing/romantic/lovely/warm and inviting/beautiful/lively/perfect for a date
+ gorgeous/calm/stylish/peaceful/family friendly/so cute/adorable/bright and airy
+ full of character
- loud/depressing/cramped/dark and dirty/run down/sterile/chaotic/stuffy/way too noisy/cold
- uninviting/smelly/shabby/tacky/freezing/outdated/too dark to read the menu
- like a noisy cafeteria
@ the table/the bathroom/the restroom/the floor/the silverware/the kitchen/the glasses*
@ the tables*/the plates*
+ spotless/clean/sparkling/very well kept/super clean/tidy/immaculate
- dirty/sticky/filthy/disgusting/greasy/covered in crumbs/gross/not cleaned at all/stained/smelly
- a health hazard
@ the wait/the wait time/the line
+ short/barely five minutes/worth it/not bad at all/almost nothing/totally fine
- endless/ridiculous/over an hour/way too long/unbearable/not worth it/insane
@ the delivery/the driver/the courier
+ fast/on time/early/super quick/friendly/right on schedule/careful with our food
- late/two hours late/rude/lost/way too slow/a mess/careless/never on time
@ the order/the takeout/the food we ordered/the packaging
+ still hot when it came/perfectly packed/exactly what we ordered/neat and tidy
+ complete and correct
- cold/wrong again/spilled all over the bag/missing half the items/a mess/smashed/leaking
- not what we ordered
@ the menu/the selection/the wine list/the vegan menu/the kids menu
+ varied/creative/full of good options/easy to choose from/impressive/well thought out
+ great for vegetarians/exciting
- limited/boring/confusing/half sold out/overcomplicated/all over the place/outdated
- pathetic for vegetarians
@ the location/the parking/the view/the music/the seating
+ great/perfect/convenient/lovely/just right/really nice/amazing/super easy
- terrible/awful/a nightmare/inconvenient/annoying/really bad/so uncomfortable/horrible
@ the wifi/the outdoor seating/the buffet/the happy hour/the brunch deal/the signature dish
@ the daily special/the combo
+ great/excellent/a pleasant surprise/so worth it/a bargain/the highlight of the night
+ really well done/super fun
- terrible/a scam/not worth it/a big letdown/never available/broken/a waste of time/really sad
@ my kids*/my husband/my wife/my mom/my friend/the whole family/my parents*/everyone at our table
@ my girlfriend
+ happy/so impressed/in love with this place/blown away/delighted/thrilled/very satisfied
+ full and happy
- disappointed/upset/not happy/sick the next day/hungry when we left/not impressed/miserable
- shocked by the bill
"""

EVENTS = """
@ -
+ they gave us a free dessert/they remembered my name/we licked the plates clean
+ I ordered a second one/we felt so welcome/they treated us like family/we left happy and full
+ our food came out in ten minutes/they fixed a mistake right away/the owner came over to say hi
+ they made my birthday special/they let us stay late/I took some home for my family
+ I could not stop eating/even my picky son finished his plate
+ we booked our next visit on the way out/I almost cried/they brought crayons for the kids
+ the chef made us something off the menu/I dream about it now/we came back twice
+ they found us a table right away/they packed everything with care/they threw in free drinks
+ I finished every bite/we shared everything and loved all of it/they checked on us twice
+ the chef sent out an extra dish/they warmed up my baby's milk/I smiled the whole way home
+ we talked about it all week/they had our table ready/my order was right and on time
+ nobody made us feel rushed/they refilled our drinks without asking/we never had to wait
+ they sent over a sample of the soup/my mom asked for the recipe/we fought over the last piece
+ I went back the very next day/they opened the patio just for us/my toddler ate every last bite
+ our waiter made great suggestions/they handled our big group with ease/I cleaned my bowl
+ the chef came out to thank us/they replaced a spilled drink for free
+ they made a vegan version for my sister/I licked the spoon/they wrapped the leftovers nicely
+ everything came out at once and hot/the food arrived faster than I could blink
+ they gave my dog a bowl of water/our server had us laughing all night
+ we stayed for hours and never felt unwelcome/they got every detail right/I ordered seconds
+ we toasted to finding this place/the free bread alone made me happy
+ they squeezed us in without a reservation/I bought a loaf for my neighbor
+ the first sip made my day/we will bring our friends/my coworkers keep asking for the name
+ my plate was empty in minutes/they knew exactly what wine to pick/I felt at home
- there was a hair in my food/I found a bug in my salad/I got food poisoning
- they got our order wrong/they forgot my drink/we waited over an hour/nobody came to our table
- they charged us twice/they lost our reservation/they refused a refund/my food came out cold
- we walked out/I threw most of it away/half of our order was missing
- they ignored us the whole time/they added a hidden fee/the waiter argued with us
- I had to ask three times for water/the meat was still raw/there was lipstick on my glass
- a roach ran across the floor/they rushed us out/they yelled at my kid/it ruined our night
- they never apologized/my stomach hurt all night/they seated people who came after us
- we left hungry/nobody cared/they brought the wrong dish twice/I took two bites and gave up
- they ran out of everything/my drink tasted like soap/the waiter slammed the plates down
- they gave our table away/my card was charged for someone else's meal/I spat it out
- we sat for half an hour without menus/they pretended not to see us
- the fries came after we finished/nobody said sorry/my steak came back worse
- they served us leftovers/the chicken was pink in the middle/a fly was floating in my drink
- they closed early without telling anyone/the toilet was overflowing/the chair broke under me
- the manager laughed at us/they cancelled our order after an hour
- the app said delivered but nothing came/they blamed us for their mistake/my kid burst into tears
- my sister broke out in hives/they used the wrong sauce/they would not take it back
- we felt robbed/the music gave me a headache/the smell made us leave/I chipped a tooth
- they sneered at my accent/they mixed up every plate/the milk in my coffee was sour
- the bread had mold on it/the fish bones nearly choked me/they sat us by the toilets
- they tried to upsell everything/our food sat on the counter getting cold
- they wiped the table with a filthy rag/I was hungry again in ten minutes
- my takeout was half empty/I had to eat standing up/they dumped us at a wobbly table
"""

SENTENCES = """
@ -
+ highly recommend/highly recommended/10 out of 10/five stars/will be back
+ we will definitely come back/love it here/can't wait to go back/best in town/hidden gem
+ a real gem/my new favorite spot/you have to try it/do yourself a favor and go/worth every penny
+ worth the wait/worth the drive/never disappoints/always a treat/keep it up/thank you guys
+ so happy/absolutely loved it/loved everything/love love love/everything was perfect
+ no complaints at all/could not ask for more/what a find/great value/great spot for a date
+ perfect for families/best meal in ages/go hungry/don't miss it/yum/wow/I'm obsessed/I'm hooked
+ I'd eat here every day/already planning my next visit/tell all your friends/totally worth it
+ couldn't be happier/can't complain/you can't go wrong here/you won't regret it
+ it didn't disappoint/wasn't expecting this/I can't recommend it enough/not a thing I'd change
+ I've never been let down/we'll be regulars now/best birthday ever
+ made with love, you can taste it/a place with heart/good food, good people/what a lovely evening
+ left with a big smile/chef's kiss/pure happiness/my go to place/a neighborhood treasure
+ made my day/so so good/exceeded our expectations/never had a bad meal here/not a single bad bite
+ I would give six stars if I could/simply the best/hats off to the chef/it's that good
+ you will love it/no regrets/trust me on this one/what's not to love
+ everyone should try this place/bravo/so fresh and so good/great food and great people
+ lovely staff and lovely food/friendly service and tasty food/great job/great service/great food
+ excellent service/amazing food/good vibes only/nice and cozy/clean and friendly
+ fast and friendly/beautiful place, delicious food/small place with a big heart
+ crispy, juicy, perfect/cheap and cheerful/simple and perfect/the best breakfast around
+ the best lunch deal downtown/best date night in years/best burger of my life
+ best pizza hands down/nothing but love for this place/nothing to complain about
+ nobody does it better/never a dull bite/never been disappointed/it felt like home
+ it felt like a little holiday/it brought back memories/it made my week
+ it was worth the long drive/I loved it/we loved it/my kids loved it/everyone loved it
+ absolutely adored this place/in love with this cafe/happy tummy/I'm still thinking about it
+ still dreaming of that sauce/take my money/shut up and take my money/instant classic/so yummy
+ blown away/impressed from start to finish/top marks/full marks
+ two thumbs up/A plus/ten stars/thoughtful service/sweet people/kind staff/generous folks
+ honest cooking/made with care/cooked with heart/what a treat/a little pricey but worth it
+ busy but worth the wait/hard to park but easy to love/not fancy but so tasty/not cheap but great
- didn't like it at all/I didn't enjoy a single bite/it wasn't good/wasn't worth the trip
- couldn't finish it/can't recommend/I expected better/don't waste your time/don't order here
- won't order again/you'd regret it/I wouldn't go for free/my stomach still hurts/we all felt sick
- nothing was right/everything went wrong/left with an empty stomach/I feel cheated/never again
- never going back/won't be back/do not recommend/avoid/avoid at all costs/stay away
- save your money/don't bother/waste of money/waste of time/total rip off/worst meal ever
- worst service ever/zero stars if I could/one star is too many/so disappointed/what a letdown
- not worth it/not worth the hype/overrated/overpriced and underwhelming/go somewhere else
- I want my money back/I'd rather starve/I could cook better at home
- a frozen dinner would be better/yuck/gross/ugh/nope/hard pass/big mistake/regret going
- lesson learned/it used to be good/went downhill fast/not what it used to be/how sad/do better
- they just don't care/someone call the health inspector/how is this place still open
- shame on them/meh/no thanks/nothing special/not even worth one star/would not feed it to my dog
- don't believe the reviews/don't fall for the photos/a complete disaster/such a shame
- pretty terrible all around/not coming back/we were robbed/unacceptable/what a joke/it's that bad
- you will regret it/nothing to love here/trust me and skip it/everyone should avoid this place
- what a mess/so stale and so sad/bad food and rude people/rude staff and cold food
- slow service and bland food/terrible job/poor show/bad service/bad food/terrible service
- awful food/bad vibes/dirty and loud/cramped and smelly/slow and rude/cold and bland
- pretty place, horrible food/big name, bad food/dry, tough, tasteless/cheap and nasty
- simple and boring/all show, no taste/the worst breakfast around/the worst lunch of my life
- worst date night in years/worst burger of my life/worst pizza ever
- nothing good to say about this place/nothing was fresh/nobody should eat here
- never felt so unwelcome/never been so let down/it felt like a prison canteen/it felt dirty
- it left a bad taste/it ruined my week/it was not worth the long drive/I hated it/we hated it
- my kids hated it/everyone hated it/couldn't wait to leave/sick of this place/my poor stomach
- I'm still angry about it/still feeling sick/give me my money back/what a scam
- it's a tourist trap/a con/so nasty/so gross/let down again
- disappointed from start to finish/zero out of ten/two thumbs down/one star/minus ten
- careless service/mean people/lazy cooking/thoughtless staff/greedy owners/no care at all
- no effort/no taste/no manners/cheap but not worth it/good location but bad food
- nice decor but terrible food/fancy but tasteless/cute but overpriced/not good/not fresh
- not clean/not friendly/not tasty/not worth the money/not worth the wait/isn't worth it
- wasn't fresh
"""

# What people put up with for the sake of the rest, by the first subject of its group.
MINOR = "the price/the prices*/the wait/the location/the atmosphere/the menu"

OPENERS = """
@ -
= went here with friends/came for lunch/came here on a date/stopped by after work/ordered takeout
= ordered delivery/tried this place last weekend/first time here/second visit/came for brunch
= went for my birthday/came with the family/a friend recommended it/saw it on instagram
= was in the area/popped in for coffee/had dinner here/my honest review
+ did not expect much/found it by accident/been coming here for years/another great visit
+ finally found a good one
- had high hopes/came because of the reviews/drove an hour for this/expected so much more
- gave it a second chance
"""

INTERJECTIONS = """
@ -
= honestly/ok so/tbh/well/so/overall/in short/not gonna lie/I have to say/look
+ wow/omg/yesss/finally/oh my god/yay/mmm/hands down/seriously
- ugh/omg/sigh/wow/seriously/sorry but/yikes/oh dear/wtf/smh
"""

INTENSIFIERS = "so/really/very/super/absolutely/pretty/incredibly/just/truly/soooo/totally/quite"

EMOJI = """
@ -
+ 😊/😍/❤️/👍/😋/🤤/🥰/🎉/✨/💯/🙌/👏/⭐⭐⭐⭐⭐/:)/😁/🔥/😄/lol/haha/xoxo/<3
- 😡/😠/🤮/😤/👎/😞/🙄/😒/😑/🤢/💩/🤬/:(/😩/smh/lol/😐/💔/-_-/🤦
"""

SPELLINGS = """
so good:sooo good,soooo gooood/really:rly,realy/definitely:definately,def/because:bc,cuz
great:gr8,graet/delicious:delish,delicous/restaurant:resturant,restraunt/recommend:reccomend,recomend
terrible:terible,terrable
amazing:amazinggg,amazin/disappointed:dissapointed,disapointed/favorite:fave,favourite/their:thier
are :r /too:to,tooo
atmosphere:atmoshpere,atmosfere/never:nevr,neverrr/waited:wated/service:servce,sevice
love:luv,looove/very :v ,veryyy /everything:evrything/worst:worsttt/bad:baaad,baddd/yummy:yummyyy
please:plz/people:ppl
"""
